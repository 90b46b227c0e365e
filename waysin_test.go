package tombolo_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tombolo/region"
)

// Each address at which something can be sent, and each kind of connector, stands in docs/storage.md with what a repeat of it does: whoever adds one has to say so.
func TestEveryWayInSaysWhatARepeatDoes(t *testing.T) {
	src, err := os.ReadFile("docs/storage.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(src), "**Each way in")
	if list, _, _ = strings.Cut(list, "\n\nA disclosure"); !ok {
		t.Fatal("docs/storage.md does not list the ways in")
	}
	told := map[string]bool{}
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(list, -1) {
		if address.MatchString(m[1]) {
			told[m[1]] = true
		} else if kind, ok := strings.CutPrefix(m[1], "connector: "); ok {
			told["connector: "+kind] = true
		}
	}
	there := addresses(t)
	for _, k := range region.Connectors {
		there["connector: "+k.Name] = "region/connectors.go"
	}
	if len(there) < 60 {
		t.Fatalf("only %d ways in were found in the code", len(there))
	}
	for way, where := range there {
		if !told[way] {
			t.Errorf("%s (%s) is not in docs/storage.md: say there what it writes, and what a repeat of it does, and show it by a test", way, where)
		}
	}
	for way := range told {
		if there[way] == "" {
			t.Errorf("docs/storage.md lists %s, and the code has no such way in", way)
		}
	}
}

var address = regexp.MustCompile(`^((POST|PUT|PATCH|DELETE) )?[/{][^ ]*$`)

// addresses are the patterns, and where each stands, by which handlers are registered for anything but GET: texts that begin with another method and an address, addresses
// without a method that are given to a mux, and those of tables with a Method and a Path.
func addresses(t *testing.T) map[string]string {
	t.Helper()
	return found(source(t))
}

func found(files map[string]*ast.File, constants map[string]ast.Expr) map[string]string {
	out := map[string]string{}
	for path, f := range files {
		add := func(e ast.Expr, mounts bool) {
			p := written(e, f.Name.Name, constants)
			if address.MatchString(p) && (mounts || !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "{")) && !handedOn[p] {
				out[p] = path
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && len(n.Args) == 2 && (s.Sel.Name == "Handle" || s.Sel.Name == "HandleFunc") {
					add(n.Args[0], true)
				} else if len(n.Args) > 1 {
					add(n.Args[0], false)
				}
			case *ast.CompositeLit:
				fields := map[string]string{}
				for _, e := range n.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						if k, ok := kv.Key.(*ast.Ident); ok && k.Name == "pattern" {
							add(kv.Value, false)
						} else if ok {
							fields[k.Name] = written(kv.Value, f.Name.Name, constants)
						}
					}
				}
				if m := fields["Method"]; m != "" && m != "GET" && strings.HasPrefix(fields["Path"], "/") {
					out[m+" "+fields["Path"]] = path
				}
			}
			return true
		})
	}
	return out
}

// handedOn are no addresses, but names by which addresses that stand elsewhere are handed on, and a follower's Handle.
var handedOn = map[string]bool{"{pattern}": true, "{r.pattern}": true, "{ctx}": true}

// source is the product's own, without tests and what is simulated, with its text constants by "package.name".
func source(t *testing.T) (files map[string]*ast.File, constants map[string]ast.Expr) {
	t.Helper()
	files, constants = map[string]*ast.File{}, map[string]ast.Expr{"http.MethodGet": lit("GET"), "http.MethodPost": lit("POST"), "http.MethodPut": lit("PUT"), "http.MethodPatch": lit("PATCH"), "http.MethodDelete": lit("DELETE")}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (path == "sim" || strings.HasPrefix(d.Name(), ".") && path != "." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files[path] = f
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				for i, name := range v.Names {
					if i < len(v.Values) {
						constants[f.Name.Name+"."+name.Name] = v.Values[i]
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, constants
}

func lit(s string) ast.Expr { return &ast.BasicLit{Kind: token.STRING, Value: strconv.Quote(s)} }

// written is the text that an expression makes; what is known only when it runs stands in braces.
func written(e ast.Expr, pkg string, constants map[string]ast.Expr) string {
	name := func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.Ident:
			return e.Name
		case *ast.SelectorExpr:
			if x, ok := e.X.(*ast.Ident); ok {
				return x.Name + "." + e.Sel.Name
			}
		}
		return "…"
	}
	switch e := e.(type) {
	case *ast.BasicLit:
		s, _ := strconv.Unquote(e.Value)
		return s
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return written(e.X, pkg, constants) + written(e.Y, pkg, constants)
		}
	case *ast.CallExpr:
		return "{" + name(e.Fun) + "}"
	case *ast.Ident, *ast.SelectorExpr:
		n := name(e)
		full := n
		if !strings.Contains(n, ".") {
			full = pkg + "." + n
		}
		if c, ok := constants[full]; ok {
			if i := strings.LastIndexByte(full, '.'); i > 0 {
				return written(c, full[:i], constants)
			}
		}
		return "{" + n + "}"
	}
	return ""
}

// The list above is of use only if a way in cannot be added past it.
func TestAWayInIsFoundHoweverItIsWritten(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "x.go", `package x
const at = "/there"
func _() {
	mux.Handle("/whole/", h)
	mux.HandleFunc("POST "+at+"/{id}", h)
	signed("DELETE /page", h)
	mux.Handle("GET /read", h)
	_ = []route{{pattern: "PUT /fhir/x", system: h}}
	_ = I{Method: http.MethodPost, Path: "/op"}
}`, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for p := range found(map[string]*ast.File{"x.go": f}, map[string]ast.Expr{"x.at": lit("/there"), "http.MethodPost": lit("POST")}) {
		got = append(got, p)
	}
	slices.Sort(got)
	if want := []string{"/whole/", "DELETE /page", "POST /op", "POST /there/{id}", "PUT /fhir/x"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}
