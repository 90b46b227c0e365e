package postgres

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// What SQL is made of here: constants, and these, which come of the configuration alone and are quoted.
var sqlMadeOf = map[string]bool{
	"quote":    true, // a schema's or channel's name, as an identifier
	"settings": true, // of the session: constants
	"of":       true, // which of two functions tells a table's size
	"tailOr":   true, // one of two constants
	"out":      true, // of a table that is copied out and in: constants
	"in":       true,
	"sql":      true, // a variable that is given nothing but constants, which is looked at below; m.sql is a migration that is embedded
}

// sqlTaken are the functions of this package that take SQL, with the place of the argument.
var sqlTaken = map[string]int{"copyOut": 2, "copyIn": 2}

// No SQL holds anything that anybody sent: each statement is put together of constants, and all that is looked for goes beside it, as a parameter.
// SQL is nowhere else (design §3).
func TestNoSQLIsMadeOfWhatAnybodySends(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	constants, parsed := map[string]bool{}, []*ast.File{}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		p, err := parser.ParseFile(fset, f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, p)
		for _, d := range p.Decls { // a variable of the package is made before anybody sends anything; that it is not given another value is looked at below
			if d, ok := d.(*ast.GenDecl); ok && d.Tok == token.VAR {
				for _, s := range d.Specs {
					for _, name := range s.(*ast.ValueSpec).Names {
						constants[name.Name] = true
					}
				}
			}
		}
		ast.Inspect(p, func(n ast.Node) bool {
			if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
				for _, s := range d.Specs {
					for _, name := range s.(*ast.ValueSpec).Names {
						constants[name.Name] = true
					}
				}
			}
			return true
		})
	}
	statements := 0
	var fixed func(e ast.Expr) bool
	fixed = func(e ast.Expr) bool {
		switch e := e.(type) {
		case *ast.BasicLit:
			return true
		case *ast.Ident:
			return constants[e.Name] || sqlMadeOf[e.Name]
		case *ast.SelectorExpr:
			return sqlMadeOf[e.Sel.Name]
		case *ast.BinaryExpr:
			return fixed(e.X) && fixed(e.Y)
		case *ast.ParenExpr:
			return fixed(e.X)
		case *ast.CallExpr:
			name, ok := e.Fun.(*ast.Ident)
			return ok && sqlMadeOf[name.Name]
		}
		return false
	}
	for _, p := range parsed {
		ast.Inspect(p, func(n ast.Node) bool {
			if a, ok := n.(*ast.AssignStmt); ok {
				for i, to := range a.Lhs {
					if name, ok := to.(*ast.Ident); !ok || name.Name != "sql" && !strings.HasSuffix(name.Name, "SQL") {
						continue
					}
					if len(a.Lhs) == len(a.Rhs) && fixed(a.Rhs[i]) || embedded(a) {
						continue
					}
					t.Errorf("%s: sql is made of more than constants", fset.Position(a.Pos()))
				}
			}
			if f, ok := n.(*ast.FuncDecl); ok && f.Name.Name == "tailOr" {
				ast.Inspect(f, func(n ast.Node) bool {
					if r, ok := n.(*ast.ReturnStmt); ok && !fixed(r.Results[0]) {
						t.Errorf("%s: SQL is made of more than constants", fset.Position(r.Pos()))
					}
					return true
				})
			}
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if name, ok := call.Fun.(*ast.Ident); ok && sqlTaken[name.Name] > 0 && !fixed(call.Args[sqlTaken[name.Name]]) {
				t.Errorf("%s: SQL is made of more than constants", fset.Position(call.Pos()))
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			at := map[string]int{"Queue": 0, "Exec": 1, "Query": 1, "QueryRow": 1, "Prepare": 2}
			i, isSQL := at[sel.Sel.Name]
			if !isSQL || len(call.Args) <= i {
				return true // b.Queue(…).Exec(func…) takes the answer
			}
			statements++
			if !fixed(call.Args[i]) {
				t.Errorf("%s: SQL is made of more than constants", fset.Position(call.Pos()))
			}
			return true
		})
	}
	if statements < 20 {
		t.Errorf("only %d statements were found: the test does not see them", statements)
	}
}

// embedded reports whether what is assigned is read out of the migrations that are in the program.
func embedded(a *ast.AssignStmt) bool {
	call, ok := a.Rhs[0].(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return false
	}
	from, ok := call.Args[0].(*ast.Ident)
	return ok && from.Name == "migrationFiles"
}
