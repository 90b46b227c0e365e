package fhirpath

import (
	"strconv"
	"strings"

	"tombolo/fhir"
)

// What an expression may be. Real ones are far smaller.
const (
	maxExpression = 32 << 10 // bytes
	maxNesting    = 100
	maxNodes      = 5000
)

// An Expr is a compiled expression. It is immutable.
type Expr struct {
	text string
	root node
}

// String is the expression as it was written.
func (e *Expr) String() string { return e.text }

// Compile reads an expression. What is wrong with it, an unknown function or type included, is an Invalid issue that says at which character.
func Compile(text string) (*Expr, error) {
	if len(text) > maxExpression {
		return nil, fhir.Errorf(fhir.TooLong, "a FHIRPath expression has at most %d bytes", maxExpression)
	}
	tokens, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &parser{src: text, tokens: tokens}
	root, err := p.expression(0, 0)
	if err != nil {
		return nil, err
	}
	if p.next().kind != tokenEnd {
		return nil, p.wrong("something follows the end of the expression, or an operator is missing")
	}
	return &Expr{text, root}, nil
}

// CompileFor is Compile for expressions that begin at an item of a FHIR type: a step to what that type cannot have is an error too.
func CompileFor(typ, text string) (*Expr, error) {
	e, err := Compile(text)
	if err != nil {
		return nil, err
	}
	t := fhirModel().named[typ]
	if t == nil {
		return nil, fhir.Errorf(fhir.Invalid, "FHIR R4 has no type of the name that the FHIRPath expression is for")
	}
	c := checker{root: types{t}}
	_, err = c.infer(e.root, types{t})
	return e, err
}

// MustCompile is Compile for expressions that are part of the program.
func MustCompile(text string) *Expr {
	e, err := Compile(text)
	if err != nil {
		panic("fhirpath: " + text + ": " + err.Error())
	}
	return e
}

type parser struct {
	src    string
	tokens []token
	at     int
	nodes  int
}

func (p *parser) next() token { return p.tokens[p.at] }

func (p *parser) take() token {
	t := p.tokens[p.at]
	if t.kind != tokenEnd {
		p.at++
	}
	return t
}

func (p *parser) symbol(s string) bool {
	if t := p.next(); t.kind == tokenSymbol && t.text == s {
		p.at++
		return true
	}
	return false
}

func (p *parser) wrong(format string, args ...any) error {
	return wrongAt(p.src, p.next().at, format, args...)
}

func (p *parser) expect(s string) error {
	if !p.symbol(s) {
		return p.wrong("%q is expected", s)
	}
	return nil
}

// binding is how tightly an operator binds. FHIRPath §6.8
var binding = map[string]int{
	"implies": 1, "or": 2, "xor": 2, "and": 3, "in": 4, "contains": 4, "=": 5, "~": 5, "!=": 5, "!~": 5, "<": 6, ">": 6, "<=": 6, ">=": 6, "|": 7,
	"is": 8, "as": 8, "+": 9, "-": 9, "&": 9, "*": 10, "/": 10, "div": 10, "mod": 10,
}

// expression reads operators that bind more tightly than least, from left to right.
func (p *parser) expression(least, depth int) (node, error) {
	if depth > maxNesting || p.nodes > maxNodes {
		return nil, fhir.Errorf(fhir.TooCostly, "the FHIRPath expression is nested more than %d deep, or has more than %d parts", maxNesting, maxNodes)
	}
	left, err := p.unary(depth)
	if err != nil {
		return nil, err
	}
	for {
		t := p.next()
		level := binding[t.text]
		if t.kind != tokenSymbol && t.kind != tokenName || level <= least {
			return left, nil
		}
		p.at++
		if p.nodes++; p.nodes > maxNodes {
			return nil, fhir.Errorf(fhir.TooCostly, "the FHIRPath expression has more than %d parts", maxNodes)
		}
		if level == binding["is"] {
			spec, err := p.typeSpecifier(t.text == "is")
			if err != nil {
				return nil, err
			}
			left = &typeTest{base: left, types: spec, as: t.text == "as"}
			continue
		}
		right, err := p.expression(level, depth+1)
		if err != nil {
			return nil, err
		}
		left = newBinary(t.text, left, right)
	}
}

func (p *parser) unary(depth int) (node, error) {
	for _, sign := range []string{"+", "-"} {
		if p.symbol(sign) {
			if depth++; depth > maxNesting {
				return nil, fhir.Errorf(fhir.TooCostly, "the FHIRPath expression is nested more than %d deep", maxNesting)
			}
			of, err := p.unary(depth)
			if err != nil {
				return nil, err
			}
			return &polarity{negative: sign == "-", of: of}, nil
		}
	}
	return p.postfix(depth)
}

// postfix reads a term and what is invoked on it: .name, .function(), [index].
func (p *parser) postfix(depth int) (node, error) {
	n, err := p.term(depth)
	if err != nil {
		return nil, err
	}
	for {
		if p.nodes++; p.nodes > maxNodes {
			return nil, fhir.Errorf(fhir.TooCostly, "the FHIRPath expression has more than %d parts", maxNodes)
		}
		switch {
		case p.symbol("."):
			if n, err = p.invocation(n, depth); err != nil {
				return nil, err
			}
		case p.symbol("["):
			i, err := p.expression(0, depth+1)
			if err != nil {
				return nil, err
			}
			if err := p.expect("]"); err != nil {
				return nil, err
			}
			n = &indexer{n, i}
		default:
			return n, nil
		}
	}
}

func (p *parser) term(depth int) (node, error) {
	t := p.next()
	switch t.kind {
	case tokenText:
		p.at++
		return &literal{computed(t.text)}, nil
	case tokenNumber:
		p.at++
		return p.number(t)
	case tokenMoment:
		p.at++
		return p.moment(t)
	case tokenName, tokenQuoted:
		return p.invocation(nil, depth)
	case tokenEnd:
		return nil, p.wrong("it ends too early")
	}
	switch {
	case p.symbol("("):
		n, err := p.expression(0, depth+1)
		if err != nil {
			return nil, err
		}
		return n, p.expect(")")
	case p.symbol("{"):
		return &empty{}, p.expect("}")
	case p.symbol("%"):
		v := p.take()
		if v.kind != tokenName && v.kind != tokenQuoted && v.kind != tokenText {
			return nil, wrongAt(p.src, v.at, "a name is expected")
		}
		name := v.text
		for v.kind == tokenName && p.next().kind == tokenSymbol && p.next().text == "-" && p.next().at == p.tokens[p.at-1].at+len(p.tokens[p.at-1].text) && (name == "vs" || name == "ext" || strings.Contains(name, "-")) {
			p.at++
			name += "-" + p.take().text
		}
		return &variable{name}, nil
	}
	return nil, p.wrong("a value, name or '(' is expected")
}

func (p *parser) number(t token) (node, error) {
	if u := p.next(); u.kind == tokenText || u.kind == tokenName && isCalendarWord(u.text) {
		p.at++
		d, ok := parseDecimal(t.text)
		if !ok {
			return nil, wrongAt(p.src, t.at, "the number has too many digits")
		}
		return &literal{computed(Quantity{value: d, unit: u.text})}, nil
	}
	if !strings.Contains(t.text, ".") {
		n, err := strconv.ParseInt(t.text, 10, 64)
		if err != nil || n > 1<<31 { // its negative is an Integer
			return nil, wrongAt(p.src, t.at, "an Integer has 32 bits: write it as a Decimal, with .0")
		}
		return &literal{computed(n)}, nil
	}
	d, ok := parseDecimal(t.text)
	if !ok {
		return nil, wrongAt(p.src, t.at, "the number has too many digits")
	}
	return &literal{computed(d)}, nil
}

func (p *parser) moment(t token) (node, error) {
	var m Moment
	ok := false
	if clock, is := strings.CutPrefix(t.text, "T"); is {
		m, ok = parseTime(clock)
	} else if m, ok = parseMoment(t.text, kindDateTime); ok && !strings.Contains(t.text, "T") {
		m.kind = kindDate
	}
	if !ok {
		return nil, wrongAt(p.src, t.at, "a date is @2026-03-31, a DateTime @2026-03-31T14:30:00+01:00, a Time @T14:30:00")
	}
	return &literal{computed(m)}, nil
}

// typeSpecifier reads Patient, FHIR.Patient or System.String. It may be asked whether something is of a type that its namespace has not: it is not.
func (p *parser) typeSpecifier(asked bool) ([]*Type, error) {
	paren := p.symbol("(")
	t := p.next()
	if t.kind != tokenName && t.kind != tokenQuoted {
		return nil, p.wrong("a type is expected")
	}
	p.at++
	namespace, name := "", t.text
	if (t.text == "FHIR" || t.text == "System") && p.symbol(".") {
		namespace, name = t.text, p.take().text
	}
	found := findTypes(namespace, name)
	if len(found) == 0 && (namespace == "" || !asked) {
		return nil, wrongAt(p.src, t.at, "there is no such type in FHIR R4 or FHIRPath")
	}
	if paren {
		return found, p.expect(")")
	}
	return found, nil
}

// invocation reads a name, a function with its arguments, or $this.
func (p *parser) invocation(base node, depth int) (node, error) {
	t := p.take()
	if t.kind != tokenName && t.kind != tokenQuoted {
		return nil, wrongAt(p.src, t.at, "a name is expected")
	}
	if t.kind == tokenName && strings.HasPrefix(t.text, "$") {
		switch t.text {
		case "$this":
			return &this{base}, nil
		case "$index", "$total":
			if base == nil {
				return &special{total: t.text == "$total"}, nil
			}
		}
		return nil, wrongAt(p.src, t.at, "there are $this, $index and $total")
	}
	if t.kind == tokenName && p.symbol("(") {
		return p.call(base, t, depth)
	}
	if base == nil && t.kind == tokenName {
		switch t.text {
		case "true", "false":
			return &literal{computed(t.text == "true")}, nil
		}
		if binding[t.text] > 0 && t.text != "as" && t.text != "is" && t.text != "in" && t.text != "contains" {
			return nil, wrongAt(p.src, t.at, "%s stands between two operands; as a name it is written in `quotes`", t.text)
		}
	}
	return &member{base: base, name: t.text}, nil
}

// call reads a function's arguments.
func (p *parser) call(base node, t token, depth int) (node, error) {
	f, ok := functions[t.text]
	if !ok {
		names := make([]string, 0, len(functions))
		for n := range functions {
			names = append(names, n)
		}
		hint := ""
		if near := fhir.Nearest(t.text, names); near != "" {
			hint = ". Did you mean " + near + "()?"
		}
		return nil, wrongAt(p.src, t.at, "there is no function of this name%s", hint)
	}
	c := &call{base: base, f: f, name: t.text}
	if f.types {
		spec, err := p.typeSpecifier(t.text == "is")
		if err != nil {
			return nil, err
		}
		if err := p.expect(")"); err != nil {
			return nil, err
		}
		if t.text == "ofType" {
			return &typeTest{base: base, types: spec, as: true, many: true}, nil
		}
		return &typeTest{base: base, types: spec, as: t.text == "as"}, nil
	}
	for !p.symbol(")") {
		if len(c.args) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		a, err := p.expression(0, depth+1)
		if err != nil {
			return nil, err
		}
		c.args = append(c.args, a)
	}
	if len(c.args) < f.least || len(c.args) > f.most {
		return nil, wrongAt(p.src, t.at, "%s() takes %s", t.text, arity(f.least, f.most))
	}
	return c, c.prepare(p.src, t.at)
}

func arity(least, most int) string {
	switch {
	case most == 0:
		return "nothing in its parentheses"
	case least == most:
		return strconv.Itoa(least) + " in its parentheses"
	case most > 50:
		return "at least " + strconv.Itoa(least) + " in its parentheses"
	}
	return "between " + strconv.Itoa(least) + " and " + strconv.Itoa(most) + " in its parentheses"
}
