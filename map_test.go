package tombolo_test

import (
	"flag"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "redraw docs/map.txt")

// TestMap keeps docs/map.txt equal to the import arrows between rooms. Nothing is forbidden and nothing goes unseen: a new arrow
// is a line in a diff. Redraw with: go test -run TestMap . -update
func TestMap(t *testing.T) {
	arrows := map[string][]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != "." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		room := filepath.ToSlash(filepath.Dir(path))
		for _, imp := range f.Imports {
			if to, ours := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), "tombolo/"); ours && !slices.Contains(arrows[room], to) {
				arrows[room] = append(arrows[room], to)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("# Which room imports which. Kept by map_test.go; redraw with: go test -run TestMap . -update\n")
	var rooms []string
	for r := range arrows {
		rooms = append(rooms, r)
	}
	slices.Sort(rooms)
	for _, r := range rooms {
		slices.Sort(arrows[r])
		b.WriteString(r + " -> " + strings.Join(arrows[r], " ") + "\n")
	}
	if *update {
		if err := os.WriteFile("docs/map.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("docs/map.txt")
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != b.String() {
		t.Errorf("docs/map.txt does not show the imports as they are; look at the new arrows, and if they are right redraw it with -update.\ngot:\n%s", b.String())
	}
}

// TestEveryRoomSaysWhatItIsFor fails when a package has no doc comment.
func TestEveryRoomSaysWhatItIsFor(t *testing.T) {
	documented := map[string]bool{}
	_ = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != "." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err == nil {
			documented[filepath.Dir(path)] = documented[filepath.Dir(path)] || f.Doc != nil
		}
		return nil
	})
	for room, ok := range documented {
		if !ok {
			t.Errorf("package %s has no doc comment: say in its first file what the room is for", room)
		}
	}
}
