package region

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"tombolo/fhir"
)

// The shape of a region file is told once, as the tables of file.go: what reads a file and what publishes its JSON Schema are the
// same lines. A reader reads one YAML node into a T.
type reader[T any] struct {
	read   func(d *decoder, n ast.Node, path string, to *T)
	schema func() schema
}

// A schema is a JSON Schema (2020-12) in the making.
type schema = map[string]any

type decoder struct {
	region   *Region
	problems []Problem
}

func (d *decoder) problem(n ast.Node, path, message, fix string) {
	at := placeOf(n)
	d.problems = append(d.problems, Problem{Error, d.region.file, at.line, at.column, path, message, fix})
}

// placeOf is where a node begins.
func placeOf(n ast.Node) place {
	if n == nil {
		return place{}
	}
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		n = m.Values[0].Key
	}
	if m, ok := n.(*ast.MappingValueNode); ok {
		n = m.Key
	}
	if tk := n.GetToken(); tk != nil && tk.Position != nil {
		return place{tk.Position.Line, tk.Position.Column}
	}
	return place{}
}

// kindOf says what a node is, for people.
func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a block of keys"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "a YAML anchor or alias"
	case *ast.TagNode:
		return "a YAML tag"
	case *ast.BoolNode:
		return "true or false"
	}
	return "a plain value"
}

// A field is one key of a block.
type field[T any] struct {
	name     string
	doc      string
	required bool
	value    reader[T]
}

// block reads a mapping with known keys.
func block[T any](doc string, fields ...field[T]) reader[T] {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return reader[T]{
		read: func(d *decoder, n ast.Node, path string, to *T) {
			values, ok := d.mapping(n, path, "keys "+strings.Join(names, ", "))
			if !ok {
				return
			}
			seen := map[string]bool{}
			for _, v := range values {
				key := scalarText(v.Key)
				i := slices.Index(names, key)
				if i < 0 {
					d.unknownKey(v.Key, path, key, names)
					continue
				}
				seen[key] = true
				at := join(path, key)
				d.region.places[at] = placeOf(v.Value)
				fields[i].value.read(d, v.Value, at, to)
			}
			for _, f := range fields {
				if f.required && !seen[f.name] {
					d.problem(n, join(path, f.name), f.name+" is missing", "Add "+f.name+": "+f.doc)
				}
			}
		},
		schema: func() schema {
			properties, required := schema{}, []string{}
			for _, f := range fields {
				s := f.value.schema()
				s["description"] = f.doc
				properties[f.name] = s
				if f.required {
					required = append(required, f.name)
				}
			}
			s := schema{"type": "object", "description": doc, "properties": properties, "additionalProperties": false}
			if len(required) > 0 {
				s["required"] = required
			}
			return s
		},
	}
}

func (d *decoder) unknownKey(n ast.Node, path, key string, names []string) {
	fix := "Keys here: " + strings.Join(names, ", ")
	if near := fhir.Nearest(key, names); near != "" {
		fix = "Did you mean " + near + "?"
	}
	d.problem(n, join(path, brief(key)), fmt.Sprintf("unknown key %q", brief(key)), fix)
}

func brief(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// mapping gives the entries of a block, or tells that it is something else.
func (d *decoder) mapping(n ast.Node, path, want string) ([]*ast.MappingValueNode, bool) {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}, true
	}
	d.wrongKind(n, path, want)
	return nil, false
}

func (d *decoder) wrongKind(n ast.Node, path, want string) {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode, *ast.TagNode:
		d.problem(n, path, kindOf(n)+" is not used in region files", "Write the value out in full")
	case *ast.NullNode:
		d.problem(n, path, "nothing stands here", "Expected "+want+"; or take the key out")
	default:
		d.problem(n, path, "expected "+want+", found "+kindOf(n), "")
	}
}

// list reads a list of blocks or values.
func list[T, E any](get func(*T) *[]E, item reader[E]) reader[T] {
	return reader[T]{
		read: func(d *decoder, n ast.Node, path string, to *T) {
			seq, ok := n.(*ast.SequenceNode)
			if !ok {
				d.wrongKind(n, path, "a list, each item with a dash before it")
				return
			}
			out := make([]E, len(seq.Values))
			for i, v := range seq.Values {
				at := fmt.Sprintf("%s[%d]", path, i)
				d.region.places[at] = placeOf(v)
				item.read(d, v, at, &out[i])
			}
			*get(to) = out
		},
		schema: func() schema { return schema{"type": "array", "items": item.schema()} },
	}
}

// A pattern is what a text must look like, in words and as a regular expression.
type pattern struct {
	words string
	expr  *regexp.Regexp
}

var (
	anyText      = pattern{"a text", regexp.MustCompile(`\S`)}
	idText       = pattern{"small letters, digits and dashes, such as rx1-pas", regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)}
	odsText      = pattern{"an ODS code: capital letters and digits, such as RX1 or M85001", regexp.MustCompile(`^[A-Z0-9]{3,12}$`)}
	activityCode = pattern{"a code of the national RBAC database, such as B0360", regexp.MustCompile(`^B[0-9]{4}$`)}
	monthsText   = pattern{"a number of months, such as 96", regexp.MustCompile(`^[1-9][0-9]{0,3}$`)}
	hashText     = pattern{"the SHA-256 of the sign-in token, 64 digits and letters a to f", regexp.MustCompile(`^[0-9a-f]{64}$`)}
	placeText    = pattern{"the name of an environment variable (WYE_TOKEN) or the path of a file that holds the credential (/etc/tombolo/wye.token)",
		regexp.MustCompile(`^([A-Z][A-Z0-9_]{0,63}|\.{0,2}/[^ ]+)$`)}
)

// text reads a plain value; numbers are taken as they are written, since ODS codes may be digits.
func text[T any](get func(*T) *string, p pattern) reader[T] {
	return reader[T]{
		read: func(d *decoder, n ast.Node, path string, to *T) {
			if s, ok := d.scalar(n, path, p.words); ok {
				if !p.expr.MatchString(s) {
					d.problem(n, path, "not "+p.words, correction(p, s))
				}
				*get(to) = s
			}
		},
		schema: func() schema {
			s := schema{"type": "string", "pattern": p.expr.String()}
			if p.expr.MatchString("918") { // an ODS code, and a number to YAML
				s["type"] = []string{"string", "integer"}
			}
			return s
		},
	}
}

func correction(p pattern, s string) string {
	for _, c := range []string{strings.ToLower(s), strings.ToUpper(s), strings.ToLower(strings.NewReplacer(" ", "-", "_", "-").Replace(s))} {
		if c != s && p.expr.MatchString(c) && p.words != placeText.words && p.words != hashText.words {
			return "Write " + c
		}
	}
	return ""
}

func (d *decoder) scalar(n ast.Node, path, want string) (string, bool) {
	switch n.(type) {
	case *ast.StringNode, *ast.LiteralNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return scalarText(n), true
	}
	d.wrongKind(n, path, want)
	return "", false
}

// scalarText is a value as written, without quotes.
func scalarText(n ast.Node) string {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value
	case *ast.LiteralNode:
		return strings.TrimSpace(v.Value.Value)
	}
	if tk := n.GetToken(); tk != nil {
		return tk.Value
	}
	return ""
}

// oneOf reads one of a closed list of words.
func oneOf[T any, W ~string](get func(*T) *W, what string, words []W) reader[T] {
	return reader[T]{
		read: func(d *decoder, n ast.Node, path string, to *T) {
			if s, ok := d.scalar(n, path, what); ok {
				if d.known(n, path, what, s, asStrings(words)) {
					*get(to) = W(s)
				}
			}
		},
		schema: func() schema { return schema{"enum": words} },
	}
}

// known tells of a word that is none of those there are.
func (d *decoder) known(n ast.Node, path, what, s string, words []string) bool {
	if slices.Contains(words, s) {
		return true
	}
	fix := "There are: " + strings.Join(words, ", ")
	if near := fhir.Nearest(s, words); near != "" {
		fix = "Did you mean " + near + "?"
	}
	d.problem(n, path, fmt.Sprintf("%q is not %s", brief(s), what), fix)
	return false
}

func asStrings[W ~string](words []W) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	return out
}

// words reads a map from words to a value each: what says what the words are, shape what the whole looks like.
func words[T any, V any](get func(*T) *map[string]V, what, shape string, keys []string, value func(d *decoder, n ast.Node, path string) (V, bool), valueSchema schema) reader[T] {
	return reader[T]{
		read: func(d *decoder, n ast.Node, path string, to *T) {
			values, ok := d.mapping(n, path, shape)
			if !ok {
				return
			}
			out := map[string]V{}
			for _, v := range values {
				key := scalarText(v.Key)
				at := join(path, brief(key))
				if keys != nil && !d.known(v.Key, at, what, key, keys) {
					continue
				}
				d.region.places[at] = placeOf(v.Key)
				if x, ok := value(d, v.Value, at); ok {
					out[key] = x
				}
			}
			*get(to) = out
		},
		schema: func() schema { return wordsSchema(keys, valueSchema) },
	}
}

func wordsSchema(keys []string, value schema) schema {
	s := schema{"type": "object", "additionalProperties": maps.Clone(value)}
	if keys != nil {
		s["propertyNames"] = schema{"enum": keys}
	}
	return s
}

// number reads a whole number between bounds.
func number[T any, N int | int64](get func(*T) *N, least, most N) reader[T] {
	return reader[T]{
		read: func(d *decoder, n ast.Node, path string, to *T) {
			s, ok := d.scalar(n, path, "a whole number")
			if !ok {
				return
			}
			v, err := strconv.ParseInt(s, 10, 64)
			switch {
			case err != nil:
				d.problem(n, path, "not a whole number", fmt.Sprintf("Write digits only, such as %d", min(most, 20*least)))
			case v < int64(least) || v > int64(most):
				d.problem(n, path, fmt.Sprintf("%s is out of bounds", brief(s)), fmt.Sprintf("Choose between %d and %d", least, most))
			default:
				*get(to) = N(v)
			}
		},
		schema: func() schema { return schema{"type": "integer", "minimum": least, "maximum": most} },
	}
}

// duration reads "2s" or "500ms".
func duration[T any](get func(*T) *time.Duration, least, most time.Duration) reader[T] {
	return reader[T]{
		read: func(d *decoder, n ast.Node, path string, to *T) {
			s, ok := d.scalar(n, path, "a duration such as 2s or 500ms")
			if !ok {
				return
			}
			v, err := time.ParseDuration(strings.ReplaceAll(s, " ", ""))
			switch {
			case err != nil:
				d.problem(n, path, "not a duration", "Write a number with its unit: 2s, 500ms")
			case v < least || v > most:
				d.problem(n, path, fmt.Sprintf("%s is out of bounds", brief(s)), fmt.Sprintf("Choose between %s and %s", plainly(least), plainly(most)))
			default:
				*get(to) = v
			}
		},
		schema: func() schema { return schema{"type": "string", "pattern": `^[0-9.]+ *(ms|s|m|h)$`} },
	}
}

// day reads a date; last makes it the end of that day, so that a last day is included.
func day[T any](get func(*T) *time.Time, last bool) reader[T] {
	return reader[T]{
		read: func(d *decoder, n ast.Node, path string, to *T) {
			s, ok := d.scalar(n, path, "a date such as 2026-04-01")
			if !ok {
				return
			}
			span, err := fhir.ParseDate(s)
			if err != nil || len(s) != len("2026-04-01") {
				d.problem(n, path, "not a date", "Write year, month and day: 2026-04-01")
				return
			}
			if *get(to) = span.Start; last {
				*get(to) = span.End
			}
		},
		schema: func() schema { return schema{"type": "string", "format": "date"} },
	}
}

// plainly writes a duration without units that are nought: 24h, not 24h0m0s.
func plainly(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
