package region

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Limits on a region file: far above any region, far below what a hostile file could cost.
const (
	maxFile  = 4 << 20
	maxDepth = 40
)

// Parse reads a region file strictly and checks it: unknown keys, wrong kinds of value, missing keys, and all that Check finds. It
// goes on as far as it can, so that all is told at once, each problem with its place; the Region holds what could be read, and must
// not be run if the problems are Broken. name is the file's name for messages.
func Parse(name string, data []byte) (*Region, []Problem) { return parseAt(name, data, time.Now()) }

func parseAt(name string, data []byte, at time.Time) (*Region, []Problem) {
	r, problems := read(name, data)
	known := map[string]bool{}
	for _, p := range problems {
		for path := p.Path; path != ""; path = path[:max(0, strings.LastIndexAny(path, ".["))] {
			known[path] = true
		}
	}
	if r.places == nil {
		return r, problems
	}
	for _, p := range CheckAt(r, at) {
		if !known[p.Path] { // what could not be read in full is not also called missing
			problems = append(problems, p)
		}
	}
	return r, inOrder(problems)
}

// read is Parse without Check. A region that is no YAML has no places.
func read(name string, data []byte) (*Region, []Problem) {
	r := &Region{file: name, Limits: DefaultLimits}
	d := &decoder{region: r}
	root, problem := readYAML(data)
	switch {
	case problem != nil:
		problem.File, problem.Severity = name, Error
		return r, []Problem{*problem}
	case root == nil:
		d.problem(nil, "", "the file is empty", "Begin with: region: {id: …, name: …}")
	default:
		r.places = map[string]place{}
		fileShape.read(d, root, "", r)
	}
	return r, d.problems
}

// Load is Parse of the file at path, and looks for the files that it names.
func Load(path string) (*Region, []Problem) {
	data, err := os.ReadFile(path)
	if err != nil {
		return &Region{file: path}, []Problem{{Severity: Error, File: path, Message: "cannot be read: " + plain(err), Fix: "Give the path of a region file"}}
	}
	r, problems := Parse(path, data)
	return r, inOrder(append(problems, missingMappings(r, filepath.Dir(path))...))
}

// plain is an error's cause without the path, which stands before it anyway.
func plain(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// missingMappings looks for the files that the region file names; a mapping builtin:NAME is one of the program's own.
func missingMappings(r *Region, dir string) []Problem {
	c := checker{r: r}
	for i, s := range r.Systems {
		if !strings.ContainsAny(s.Mapping, "./\\") {
			continue
		}
		p := s.Mapping
		if !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		if _, err := os.Stat(p); err != nil {
			c.err(fmt.Sprintf("systems[%d].mapping", i), fmt.Sprintf("the mapping file %s cannot be read: %s", s.Mapping, plain(err)),
				"Paths are relative to the region file")
		}
	}
	type named struct{ path, file string }
	files := []named{{"audit.staff", r.Audit.Staff}, {"audit.watched", r.Audit.Watched}, {"policy.opt_outs", r.Policy.OptOuts}, {"policy.code_lists", r.Policy.CodeLists}}
	for i, p := range r.Definitions {
		files = append(files, named{fmt.Sprintf("definitions[%d]", i), p})
	}
	for path, t := range r.certificates() {
		files = append(files, named{path + ".tls.certificate", t.Certificate}, named{path + ".tls.key", t.Key}, named{path + ".tls.ca", t.CA}, named{path + ".tls.crl", t.CRL})
	}
	for _, f := range files {
		p := f.file
		if p != "" && !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		if p == "" {
			continue
		}
		if _, err := os.Stat(p); err != nil {
			c.err(f.path, fmt.Sprintf("the file %s cannot be read: %s", f.file, plain(err)), "Paths are relative to the region file")
		}
	}
	return c.problems
}

// certificates are the certificate files of the audit repository, and of each system and neighbour, by its place.
func (r *Region) certificates() map[string]TLS {
	out := map[string]TLS{"audit": r.Audit.TLS}
	for i, s := range r.Systems {
		out[fmt.Sprintf("systems[%d]", i)] = s.TLS
	}
	for i, n := range r.Neighbours {
		out[fmt.Sprintf("neighbours[%d]", i)] = n.TLS
	}
	return out
}

// readYAML gives the root of the one document in data, or says why it cannot be read.
func readYAML(data []byte) (root ast.Node, problem *Problem) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	switch {
	case len(data) > maxFile:
		return nil, &Problem{Message: fmt.Sprintf("the file has %d bytes, more than a region file ever needs (%d)", len(data), maxFile), Fix: "Is this the right file?"}
	case bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")):
		return nil, &Problem{Line: 1, Column: 1, Message: "the file is UTF-16", Fix: "Save it as UTF-8"}
	case !utf8.Valid(data):
		at := invalidAt(data)
		return nil, &Problem{Line: at.line, Column: at.column, Message: "the file is not UTF-8: an accented letter or a curly quote was saved in another encoding", Fix: "Save it as UTF-8"}
	case bytes.IndexByte(data, 0) >= 0:
		return nil, &Problem{Message: "the file holds zero bytes and is no text", Fix: "Is this the right file?"}
	}
	if at, deep := tooDeep(data); deep {
		return nil, &Problem{Line: at.line, Column: at.column, Message: fmt.Sprintf("nested more than %d deep", maxDepth), Fix: "Is this a region file?"}
	}
	defer func() { // the YAML library must never take the program down with it
		if e := recover(); e != nil {
			root, problem = nil, &Problem{Message: "the file is not YAML that can be read", Fix: "Check brackets, quotes and indentation"}
		}
	}()
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, syntaxProblem(err)
	}
	for _, doc := range file.Docs {
		switch {
		case doc == nil || doc.Body == nil:
		case root != nil:
			at := placeOf(doc.Body)
			return nil, &Problem{Line: at.line, Column: at.column, Message: "a second YAML document begins here", Fix: "Keep one region to a file: take the line --- out"}
		default:
			root = doc.Body
		}
	}
	return root, nil
}

func syntaxProblem(err error) *Problem {
	p := &Problem{Message: "not valid YAML", Fix: "Check brackets, quotes, colons and indentation here and in the line above"}
	var se yaml.Error
	if errors.As(err, &se) {
		p.Message = "not valid YAML: " + se.GetMessage()
		if tk := se.GetToken(); tk != nil && tk.Position != nil {
			p.Line, p.Column = tk.Position.Line, tk.Position.Column
		}
		if tk := se.GetToken(); tk != nil && strings.HasPrefix(strings.TrimLeft(tk.Origin, " \n"), "\t") || strings.Contains(p.Message, "tab") {
			p.Fix = "Indent with spaces, not tabs"
		}
		if strings.Contains(p.Message, "already defined") {
			p.Fix = "Each key stands once: join the two, or rename one"
		}
	}
	return p
}

func invalidAt(data []byte) place {
	at := place{1, 1}
	for len(data) > 0 {
		c, n := utf8.DecodeRune(data)
		switch {
		case c == utf8.RuneError && n == 1:
			return at
		case c == '\n':
			at = place{at.line + 1, 1}
		default:
			at.column++
		}
		data = data[n:]
	}
	return at
}

// tooDeep looks for nesting that would exhaust the parser: brackets in brackets, lists opened within one line, or indentation.
func tooDeep(data []byte) (place, bool) {
	brackets := 0
	line := 1
	for text := range bytes.Lines(data) {
		dashes, start := 0, true
		for i, c := range text {
			switch {
			case c == '[' || c == '{':
				brackets++
			case c == ']' || c == '}':
				brackets = max(0, brackets-1)
			case start && (c == '-' || c == '?'):
				dashes++
			case c == '#' && (i == 0 || text[i-1] == ' '):
				start = false
			case c != ' ' && c != '\t':
				start = false
			}
			if brackets > maxDepth || dashes > maxDepth && i > 0 && text[i-1] == ' ' || start && i > 10*maxDepth {
				return place{line, i + 1}, true
			}
		}
		line++
	}
	return place{}, false
}
