package extract

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"tombolo/fhir"
)

// A place in a mapping file.
type place struct{ line, column int }

func (p place) String() string { return fmt.Sprintf("line %d, column %d", p.line, p.column) }

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{t.Position.Line, t.Position.Column}
}

// The shape of a mapping file. Each scalar remembers where it stands, so that every mistake can be shown there.
type (
	yamlMapping struct {
		Mapping   scalar     `yaml:"mapping"`
		Mode      scalar     `yaml:"mode"`
		Encoding  scalar     `yaml:"encoding"`
		Delimiter scalar     `yaml:"delimiter"`
		Patient   pairs      `yaml:"patient"`
		Tables    pairs      `yaml:"tables"`
		Files     []yamlFile `yaml:"files"`
	}
	yamlFile struct {
		Name      scalar      `yaml:"name"`
		Encoding  scalar      `yaml:"encoding"`
		Delimiter scalar      `yaml:"delimiter"`
		Columns   yamlColumns `yaml:"columns"`
		Key       scalars     `yaml:"key"`
		Patient   pairs       `yaml:"patient"`
		Removed   scalar      `yaml:"removed"`
		Make      []yamlMake  `yaml:"make"`
	}
	yamlColumns struct {
		Required scalars `yaml:"required"`
		Optional scalars `yaml:"optional"`
		Ignore   scalars `yaml:"ignore"`
	}
	yamlMake struct {
		Type    scalar  `yaml:"type"`
		ID      scalar  `yaml:"id"`
		Heading scalar  `yaml:"heading"`
		When    scalar  `yaml:"when"`
		Set     pairs   `yaml:"set"`
		Fields  pairs   `yaml:"fields"`
		File    scalar  `yaml:"file"`
		Types   scalars `yaml:"types"`
	}
)

// A scalar is one value: text as written, and what YAML takes it for.
type scalar struct {
	s    string
	kind kind // text, number, boolean; absent if it was not given
	bad  bool // a list or mapping stands where one value should
	at   place
}

func (s *scalar) UnmarshalYAML(n ast.Node) error { *s = scalarOf(n); return nil }

func scalarOf(n ast.Node) scalar {
	s := scalar{at: placeOf(n.GetToken()), kind: text}
	switch v := n.(type) {
	case *ast.StringNode:
		s.s = v.Value
	case *ast.LiteralNode:
		s.s = strings.TrimRight(v.Value.Value, "\n")
	case *ast.IntegerNode, *ast.FloatNode:
		s.s, s.kind = v.GetToken().Value, number
	case *ast.BoolNode:
		s.s, s.kind = fmt.Sprint(v.Value), boolean
	case *ast.NullNode:
		s.kind = absent
	default:
		s.bad = true
	}
	return s
}

// scalars is a list of values; one value stands for a list of itself.
type scalars []scalar

func (l *scalars) UnmarshalYAML(n ast.Node) error {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		*l = scalars{scalarOf(n)}
		return nil
	}
	for _, v := range seq.Values {
		*l = append(*l, scalarOf(v))
	}
	return nil
}

// pairs is a mapping in the order it was written.
type pairs struct {
	list  []pair
	given bool
	bad   bool // something other than a mapping stands there
	at    place
}

type pair struct {
	key   scalar
	value scalar
	inner *pairs // where the value is a mapping itself
}

func (p *pairs) UnmarshalYAML(n ast.Node) error { *p = pairsOf(n); return nil }

func pairsOf(n ast.Node) pairs {
	p := pairs{given: true, at: placeOf(n.GetToken())}
	values, ok := mappingValues(n)
	p.bad = !ok
	for _, v := range values {
		e := pair{key: scalarOf(v.Key.(ast.Node)), value: scalarOf(v.Value)}
		if _, ok := mappingValues(v.Value); ok {
			inner := pairsOf(v.Value)
			e.inner = &inner
		}
		p.list = append(p.list, e)
	}
	return p
}

func mappingValues(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch v := n.(type) {
	case *ast.MappingNode:
		return v.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{v}, true
	}
	return nil, false
}

// maxMapping is the size of the largest mapping file read; a long one has a few hundred lines.
const maxMapping = 1 << 20

// read reads the YAML strictly: one document, no unknown or repeated keys, no anchors (which make a small file expand without end).
func readYAML(data []byte) (*yamlMapping, *fhir.Issue) {
	if len(data) > maxMapping {
		return nil, fhir.Errorf(fhir.TooLong, "the mapping file is larger than 1 MiB: is it a mapping file?")
	}
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, yamlIssue(err)
	}
	if len(f.Docs) != 1 || f.Docs[0].Body == nil {
		return nil, fhir.Errorf(fhir.Structure, "a mapping file holds exactly one YAML document, this has %d", len(f.Docs)).At(place{1, 1}.String())
	}
	var w refuseAnchors
	ast.Walk(&w, f.Docs[0].Body)
	if w.found != nil {
		return nil, fhir.Errorf(fhir.NotSupported, "anchors, aliases, merge keys and tags are not part of a mapping file: write the lines out").At(placeOf(w.found).String())
	}
	m := new(yamlMapping)
	if err := yaml.NodeToValue(f.Docs[0].Body, m, yaml.Strict()); err != nil {
		return nil, yamlIssue(err)
	}
	return m, nil
}

type refuseAnchors struct{ found *token.Token }

func (w *refuseAnchors) Visit(n ast.Node) ast.Visitor {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode, *ast.TagNode:
		if w.found == nil {
			w.found = n.GetToken()
		}
	}
	return w
}

// yamlIssue puts the YAML library's complaint in our words, with its place.
func yamlIssue(err error) *fhir.Issue {
	ye, ok := err.(yaml.Error)
	if !ok {
		return fhir.Errorf(fhir.Structure, "not a mapping file: %s", err)
	}
	msg := ye.GetMessage()
	if key, ok := strings.CutPrefix(msg, "unknown field "); ok {
		key = strings.Trim(key, `"`)
		msg = fmt.Sprintf("there is no key %q here%s", key, nearest(key, knownKeys))
	}
	return fhir.Errorf(fhir.Structure, "%s", msg).At(placeOf(ye.GetToken()).String())
}

var knownKeys = []string{"mapping", "mode", "encoding", "delimiter", "patient", "tables", "files", "name", "columns", "key", "removed", "make",
	"required", "optional", "ignore", "type", "id", "heading", "when", "set", "fields", "file", "types"}
