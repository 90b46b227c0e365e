package extract

import (
	"fmt"
	"slices"
	"strings"
)

// An expr is a compiled expression over one row's cells.
type expr struct {
	eval   func(c *cells) (value, error)
	column string // the first column it reads, for telling where a value is wrong; "" if it reads none
	at     place
	src    string
}

// cells are one row under the names its file's mapping gives the columns.
type cells struct {
	row     *row
	decoder *decoder
	at      []int // declared column → cell; -1 where the file has no such column
	now     []string
	seen    []bool
	patient string // reference of the row's patient, once known
	doc     *attached
}

// column is the text of a declared column, without the blanks around it.
func (c *cells) column(i int) string {
	if c.seen[i] {
		return c.now[i]
	}
	s := ""
	if at := c.at[i]; at >= 0 && at < len(c.row.spans) {
		cell := c.row.spans[at]
		s = strings.TrimSpace(c.decoder.text(c.row.raw[cell.start:cell.end], cell.escaped))
	}
	c.now[i], c.seen[i] = s, true
	return s
}

// A columnError is a value that cannot be used, in a named column.
type columnError struct {
	column string
	text   string
}

func (e *columnError) Error() string { return e.text }

// A compiler turns one expression's text into an expr.
type compiler struct {
	declared []column // the file's columns, in order
	strict   bool     // only columns that are declared may be named; else naming one declares it, as required
	tables   map[string]*table
	toks     []lexeme
	i        int
	at       place
	depth    int
}

type lexeme struct {
	kind byte // 'a' name, 'c' [column], 's' string, 'n' number, 'o' operator or bracket, 0 end
	s    string
	at   int
}

func lex(src string) ([]lexeme, error) {
	var out []lexeme
	for i := 0; i < len(src); {
		c := src[i]
		start := i
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
			continue
		case c == '\'' || c == '"':
			j := strings.IndexByte(src[i+1:], c)
			if j < 0 {
				return nil, fmt.Errorf("the text that starts with %c at character %d has no end", c, i+1)
			}
			out = append(out, lexeme{'s', src[i+1 : i+1+j], start})
			i += j + 2
		case c == '[':
			j := strings.IndexByte(src[i:], ']')
			if j < 0 {
				return nil, fmt.Errorf("the column name that starts with [ at character %d has no end", i+1)
			}
			out = append(out, lexeme{'c', strings.TrimSpace(src[i+1 : i+j]), start})
			i += j + 1
		case c >= '0' && c <= '9':
			for i < len(src) && (src[i] >= '0' && src[i] <= '9' || src[i] == '.') {
				i++
			}
			out = append(out, lexeme{'n', src[start:i], start})
		case isLetter(c):
			for i < len(src) && (isLetter(src[i]) || src[i] >= '0' && src[i] <= '9') {
				i++
			}
			out = append(out, lexeme{'a', src[start:i], start})
		case strings.HasPrefix(src[i:], "==") || strings.HasPrefix(src[i:], "!="):
			out = append(out, lexeme{'o', src[i : i+2], start})
			i += 2
		case c == '(' || c == ')' || c == ',':
			out = append(out, lexeme{'o', src[i : i+1], start})
			i++
		default:
			return nil, fmt.Errorf("%.1q at character %d is not part of an expression", src[i:], i+1)
		}
	}
	return append(out, lexeme{at: len(src)}), nil
}

func isLetter(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80 }

// compile reads  a == 'x' and not (b or c != d),  function(a, 'x'),  column,  [Column with blanks],  'text',  12.5
func (k *compiler) compile(src string, at place) (*expr, error) {
	toks, err := lex(src)
	if err != nil {
		return nil, err
	}
	if bareName(toks) {
		toks = []lexeme{{'c', strings.TrimSpace(src), 0}, {at: len(src)}}
	}
	k.toks, k.i, k.at, k.depth = toks, 0, at, 0
	e, err := k.or()
	if err != nil {
		return nil, err
	}
	if t := k.toks[k.i]; t.kind != 0 {
		return nil, fmt.Errorf("%q at character %d is not expected here", t.s, t.at+1)
	}
	e.src = src
	return e, nil
}

// bareName reports whether an expression is nothing but words, "Visit Date": a column's name, for which no brackets are needed.
func bareName(toks []lexeme) bool {
	for _, t := range toks[:len(toks)-1] {
		if t.kind != 'a' && t.kind != 'n' || t.s == "and" || t.s == "or" || t.s == "not" {
			return false
		}
	}
	return len(toks) > 2 && toks[0].kind == 'a'
}

func (k *compiler) take(op string) bool {
	if t := k.toks[k.i]; (t.kind == 'o' || t.kind == 'a') && t.s == op {
		k.i++
		return true
	}
	return false
}

func (k *compiler) or() (*expr, error) {
	return k.chain("or", k.and, func(a, b bool) bool { return a || b })
}

func (k *compiler) and() (*expr, error) {
	return k.chain("and", k.not, func(a, b bool) bool { return a && b })
}

func (k *compiler) chain(op string, next func() (*expr, error), join func(a, b bool) bool) (*expr, error) {
	e, err := next()
	for err == nil && k.take(op) {
		a := e
		b, err2 := next()
		if err2 != nil {
			return nil, err2
		}
		e = k.make(func(c *cells) (value, error) {
			x, err := a.eval(c)
			if err != nil {
				return nothing, err
			}
			y, err := b.eval(c)
			return boolOf(join(x.truth(), y.truth())), err
		}, a, b)
	}
	return e, err
}

func (k *compiler) not() (*expr, error) {
	if !k.take("not") {
		return k.comparison()
	}
	if k.depth++; k.depth > maxNesting {
		return nil, errNesting
	}
	a, err := k.not()
	k.depth--
	if err != nil {
		return nil, err
	}
	return k.make(func(c *cells) (value, error) {
		x, err := a.eval(c)
		return boolOf(!x.truth()), err
	}, a), nil
}

// comparison compares words, capitals aside: systems are not consistent about them.
func (k *compiler) comparison() (*expr, error) {
	a, err := k.primary()
	if err != nil {
		return nil, err
	}
	equal := k.take("==")
	if !equal && !k.take("!=") {
		return a, nil
	}
	b, err := k.primary()
	if err != nil {
		return nil, err
	}
	return k.make(func(c *cells) (value, error) {
		x, err := a.eval(c)
		if err != nil {
			return nothing, err
		}
		y, err := b.eval(c)
		return boolOf(strings.EqualFold(x.str(), y.str()) == equal), err
	}, a, b), nil
}

const maxNesting = 32

var errNesting = fmt.Errorf("nested more than %d deep", maxNesting)

func (k *compiler) primary() (*expr, error) {
	if k.depth++; k.depth > maxNesting {
		return nil, errNesting
	}
	defer func() { k.depth-- }()
	t := k.toks[k.i]
	k.i++
	switch {
	case t.kind == 's':
		return k.constant(textOf(t.s)), nil
	case t.kind == 'n':
		if !isNumber(t.s) {
			return nil, fmt.Errorf("%q is not a number", t.s)
		}
		return k.constant(value{kind: number, s: t.s}), nil
	case t.kind == 'c':
		return k.columnNamed(t)
	case t.kind == 'a' && k.toks[k.i].s == "(" && k.toks[k.i].kind == 'o':
		return k.call(t)
	case t.kind == 'a' && (t.s == "true" || t.s == "false"):
		return k.constant(boolOf(t.s == "true")), nil
	case t.kind == 'a':
		return k.columnNamed(t)
	case t.kind == 'o' && t.s == "(":
		e, err := k.or()
		if err == nil && !k.take(")") {
			err = fmt.Errorf("a bracket opens at character %d and does not close", t.at+1)
		}
		return e, err
	case t.kind == 0:
		return nil, fmt.Errorf("the expression ends where a column, function or 'text' should stand")
	}
	return nil, fmt.Errorf("%q at character %d stands where a column, function or 'text' should", t.s, t.at+1)
}

func (k *compiler) constant(v value) *expr {
	return k.make(func(*cells) (value, error) { return v, nil })
}

func (k *compiler) find(name string) int {
	return slices.IndexFunc(k.declared, func(c column) bool { return sameColumn(c.name, name) })
}

// declare adds a column, or makes one that is there already required.
func (k *compiler) declare(name string, required bool) int {
	i := k.find(name)
	if i < 0 {
		k.declared = append(k.declared, column{strings.TrimSpace(name), required})
		return len(k.declared) - 1
	}
	return i
}

func (k *compiler) columnNamed(t lexeme) (*expr, error) {
	i := k.find(t.s)
	if i < 0 {
		if k.strict {
			var names []string
			for _, c := range k.declared {
				names = append(names, c.name)
			}
			return nil, fmt.Errorf("no column %q is declared: add it to columns, or put 'quotes' around text that is meant as it stands%s", t.s, nearest(t.s, names))
		}
		i = k.declare(t.s, true)
	}
	e := k.make(func(c *cells) (value, error) { return textOf(c.column(i)), nil })
	e.column = k.declared[i].name
	return e, nil
}

func (k *compiler) call(name lexeme) (*expr, error) {
	f, ok := functions[name.s]
	if !ok {
		return nil, fmt.Errorf("there is no function %q; there are %s", name.s, functionNames())
	}
	k.i++ // (
	var args []*expr
	var tab *table
	for n := 0; !k.take(")"); n++ {
		if n > 0 && !k.take(",") {
			return nil, fmt.Errorf("%s(…): a comma or ) is missing at character %d", name.s, k.toks[k.i].at+1)
		}
		if f.table && n == 1 {
			t := k.toks[k.i]
			if tab, ok = k.tables[t.s]; !ok {
				return nil, fmt.Errorf("%s(…): there is no table %q under tables%s", name.s, t.s, nearest(t.s, keys(k.tables)))
			}
			tab.used = true
			k.i++
			continue
		}
		a, err := k.or()
		if err != nil {
			return nil, err
		}
		args = append(args, a)
	}
	if len(args) < f.min || len(args) > f.max || f.table && tab == nil {
		return nil, fmt.Errorf("%s takes %s", name.s, f.usage)
	}
	if f.special != nil {
		return k.make(f.special(args), args...), nil
	}
	return k.make(func(c *cells) (value, error) {
		var room [6]value
		vals := room[:0]
		for _, a := range args {
			v, err := a.eval(c)
			if err != nil {
				return nothing, err
			}
			vals = append(vals, v)
		}
		v, err := f.call(vals, tab)
		if err != nil {
			return nothing, blame(err, args)
		}
		return v, nil
	}, args...), nil
}

// blame names the column that a function could not use: that of the argument meant, or else the first.
func blame(err error, args []*expr) error {
	if _, ok := err.(*columnError); ok {
		return err
	}
	n := 0
	if a, ok := err.(*argumentError); ok {
		n = a.n
	}
	if n < len(args) && args[n].column != "" {
		return &columnError{args[n].column, err.Error()}
	}
	for _, a := range args {
		if a.column != "" {
			return &columnError{a.column, err.Error()}
		}
	}
	return &columnError{"", err.Error()}
}

func (k *compiler) make(eval func(*cells) (value, error), of ...*expr) *expr {
	e := &expr{eval: eval, at: k.at}
	for _, o := range of {
		if e.column == "" {
			e.column = o.column
		}
	}
	return e
}

// sameColumn compares column names as people type them.
func sameColumn(a, b string) bool {
	return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b))
}

func keys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
