package tombolo_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The rooms whose New makes a handler that answers about patients.
var faces = []string{"api", "api/gpconnect", "api/nrl", "web"}

// TestEveryNodeOfATestIsWatched holds the tests of every room that can start a node, or serve a node's faces, to running under the lookout; and the program
// to setting none.
func TestEveryNodeOfATestIsWatched(t *testing.T) {
	imports, inTests, mains := map[string][]string{}, map[string][]string{}, map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != "." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		room, into := filepath.ToSlash(filepath.Dir(path)), imports
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, "_test.go") {
			into = inTests
			if strings.Contains(string(text), "func TestMain(") {
				mains[room] = string(text)
			}
		} else if strings.Contains(string(text), "node.Watched = ") && room != "sim/lookout/nodes" {
			t.Errorf("%s sets node.Watched, which is for tests alone", path)
		}
		for _, imp := range f.Imports {
			if to, ours := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), "tombolo/"); ours {
				into[room] = append(into[room], to)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var reaches func(room, to string, been map[string]bool) bool
	reaches = func(room, to string, been map[string]bool) bool {
		if room == to {
			return true
		}
		been[room] = true
		return slices.ContainsFunc(imports[room], func(next string) bool { return !been[next] && reaches(next, to, been) })
	}
	starts, serves := 0, 0
	for room, tested := range inTests {
		from := append([]string{room}, tested...)
		touches := func(to string) bool {
			return slices.ContainsFunc(from, func(r string) bool { return reaches(r, to, map[string]bool{}) })
		}
		switch main := mains[room]; {
		case touches("node"):
			if starts++; !strings.Contains(main, "nodes.Main(") {
				t.Errorf("tests of %s can start a node that nobody watches: give the package a TestMain that calls nodes.Main (package sim/lookout/nodes)", room)
			}
		case slices.ContainsFunc(from, func(r string) bool { return slices.Contains(faces, r) }) && !strings.HasPrefix(room, "sim/") || slices.Contains(from, "api") || slices.Contains(from, "web"):
			if serves++; !strings.Contains(main, "lookout.Main(") {
				t.Errorf("tests of %s serve a node's faces, which nobody watches: give the package a TestMain that calls lookout.Main (package sim/lookout), and the fixture a lookout.Over", room)
			}
		}
	}
	if starts < 6 || serves < 5 {
		t.Errorf("only %d rooms start nodes and %d serve their faces: this test looks past them", starts, serves)
	}
}

// TestEveryFaceOfATestIsWatched holds the functions of tests that make a handler which answers about patients, and give it to be asked, to putting a lookout over it.
func TestEveryFaceOfATestIsWatched(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != "." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		made, unwatched, err := facesMade(filepath.ToSlash(path), text)
		for _, f := range unwatched {
			t.Errorf("%s: %s makes a face that nobody watches: give it to be asked through Answers of a lookout.Over (package sim/lookout)", path, f)
		}
		seen += made
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 5 {
		t.Errorf("only %d functions of tests make faces: this test looks past them", seen)
	}
	for what, c := range map[string]struct {
		path, body string
		unwatched  int
	}{
		"not watched":                {"api/gpconnect/gathered/x_test.go", `func serve() http.Handler { h, _ := face.New(face.Options{}); return h }`, 1},
		"watched":                    {"api/gpconnect/gathered/x_test.go", `func serve() http.Handler { h, _ := face.New(face.Options{}); return l.Answers(h) }`, 0},
		"watched by a helper":        {"api/gpconnect/gathered/x_test.go", `func serve() http.Handler { h, _ := face.New(face.Options{}); return watched(h) }`, 0},
		"asked without its lookout":  {"web/x_test.go", `func serve() { h, _ := New(Options{}); httptest.NewServer(h) }`, 1},
		"a page that nobody asks":    {"web/x_test.go", `func render() string { h, _ := New(Options{}); return h.fragment("x") }`, 0},
		"another package's New":      {"fhir/x_test.go", `func make() http.Handler { return New() }`, 0},
		"a face without its handler": {"api/gpconnect/gathered/x_test.go", `func list() face.List { return face.List{} }`, 0},
	} {
		_, unwatched, err := facesMade(c.path, []byte("package x\nimport face \"tombolo/api/gpconnect\"\n"+c.body))
		if err != nil || len(unwatched) != c.unwatched {
			t.Errorf("%s: said of %q (%v)", what, unwatched, err)
		}
	}
}

// facesMade counts the functions of a test's file that make a face, and names those that give it to be asked without a lookout.
func facesMade(path string, text []byte) (made int, unwatched []string, err error) {
	f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
	if err != nil {
		return 0, nil, err
	}
	names := map[string]bool{}
	for _, imp := range f.Imports {
		room := strings.TrimPrefix(strings.Trim(imp.Path.Value, `"`), "tombolo/")
		switch {
		case !slices.Contains(faces, room):
		case imp.Name != nil:
			names[imp.Name.Name] = true
		default:
			names[room[strings.LastIndexByte(room, '/')+1:]] = true
		}
	}
	own := slices.Contains(faces, path[:max(0, strings.LastIndexByte(path, '/'))])
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		makes, watches, asked := false, false, false
		ast.Inspect(fn, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				switch to := n.Fun.(type) {
				case *ast.SelectorExpr:
					x, _ := to.X.(*ast.Ident)
					makes = makes || to.Sel.Name == "New" && x != nil && names[x.Name]
					watches = watches || to.Sel.Name == "Answers"
				case *ast.Ident:
					makes = makes || own && to.Name == "New"
					watches = watches || to.Name == "watched"
				}
			case *ast.SelectorExpr:
				asked = asked || slices.Contains([]string{"Handler", "NewServer", "NewTLSServer", "NewUnstartedServer", "ServeHTTP"}, n.Sel.Name)
			}
			return true
		})
		if makes {
			made++
		}
		if makes && asked && !watches {
			unwatched = append(unwatched, fn.Name.Name)
		}
	}
	return made, unwatched, nil
}
