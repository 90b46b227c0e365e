package hl7v2

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	yamlerr "github.com/goccy/go-yaml"

	"tombolo/fhir"
)

// A place in a mapping file.
type place struct{ line, column int }

func (p place) String() string { return fmt.Sprintf("line %d, column %d", p.line, p.column) }

func placeAt(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{t.Position.Line, t.Position.Column}
}

// A tree is a mapping file as written: a scalar, a list or pairs in order, each with its place.
type tree struct {
	s     string
	list  []*tree
	pairs []pairing
	at    place
}

type pairing struct {
	key   string
	value *tree
	at    place
}

func (t *tree) get(key string) *tree {
	for _, p := range t.pairs {
		if p.key == key {
			return p.value
		}
	}
	return nil
}

// items is a list, or the one value that stands for a list of itself.
func (t *tree) items() []*tree {
	if t.list != nil {
		return t.list
	}
	return []*tree{t}
}

const maxMapping = 1 << 20

// readYAML reads strictly: one document, no repeated keys, no anchors (which make a small file expand without end).
func readYAML(data []byte) (*tree, *fhir.Issue) {
	if len(data) > maxMapping {
		return nil, fhir.Errorf(fhir.TooLong, "the mapping file is larger than 1 MiB: is it a mapping file?").At(place{1, 1}.String())
	}
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		if ye, ok := err.(yamlerr.Error); ok {
			return nil, fhir.Errorf(fhir.Structure, "%s", ye.GetMessage()).At(placeAt(ye.GetToken()).String())
		}
		return nil, fhir.Errorf(fhir.Structure, "not a mapping file: %s", err).At(place{1, 1}.String())
	}
	if len(f.Docs) != 1 || f.Docs[0].Body == nil {
		return nil, fhir.Errorf(fhir.Structure, "a mapping file holds exactly one YAML document, this has %d", len(f.Docs)).At(place{1, 1}.String())
	}
	return treeOf(f.Docs[0].Body, 0)
}

func treeOf(n ast.Node, depth int) (*tree, *fhir.Issue) {
	t := &tree{at: placeAt(n.GetToken())}
	if depth > 20 {
		return nil, fhir.Errorf(fhir.TooCostly, "the mapping file is nested too deeply").At(t.at.String())
	}
	var values []*ast.MappingValueNode
	switch v := n.(type) {
	case *ast.MappingNode:
		values = v.Values
		t.pairs = []pairing{}
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{v}
	case *ast.SequenceNode:
		t.list = []*tree{}
		for _, e := range v.Values {
			item, issue := treeOf(e, depth+1)
			if issue != nil {
				return nil, issue
			}
			t.list = append(t.list, item)
		}
	case *ast.StringNode:
		t.s = v.Value
	case *ast.LiteralNode:
		t.s = strings.TrimRight(v.Value.Value, "\n")
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		t.s = n.GetToken().Value
	case *ast.NullNode:
	default:
		return nil, fhir.Errorf(fhir.NotSupported, "anchors, aliases, merge keys and tags are not part of a mapping file: write the lines out").At(t.at.String())
	}
	for _, v := range values {
		k := v.Key.(ast.Node)
		at := placeAt(k.GetToken())
		if _, ok := k.(*ast.MergeKeyNode); ok {
			return nil, fhir.Errorf(fhir.NotSupported, "anchors, aliases, merge keys and tags are not part of a mapping file: write the lines out").At(at.String())
		}
		key, issue := treeOf(k, depth+1)
		if issue != nil {
			return nil, issue
		}
		if t.get(key.s) != nil {
			return nil, fhir.Errorf(fhir.Structure, "the key %q stands here twice", key.s).At(at.String())
		}
		value, issue := treeOf(v.Value, depth+1)
		if issue != nil {
			return nil, issue
		}
		t.pairs = append(t.pairs, pairing{key.s, value, at})
	}
	return t, nil
}

func nearestOf(name string, known []string) string {
	if n := fhir.Nearest(name, known); n != "" {
		return fmt.Sprintf(": did you mean %q?", n)
	}
	return ": there are " + strings.Join(known, ", ")
}
