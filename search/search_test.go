package search

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tombolo/fhir"
)

// The stories under testdata/*.search are for anyone to read: resources, questions, and who is found.
//
//	given NAME, then a resource as JSON up to the next empty line
//	find TYPE?parameters          strict, as our faces ask
//	find leniently TYPE?parameters
//	expect NAME, NAME…            exactly these of the resources given in the file
//	expect nobody
//	expect error "part of the message"
//	expect warning "part of the message"
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.search")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories under testdata", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".search"), func(t *testing.T) { runStory(t, f) })
	}
}

type story struct {
	names     []string
	resources []*fhir.Resource
	query     Query
	issues    []*fhir.Issue
	err       error
	asked     bool
}

func runStory(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s story
	lines := strings.Split(string(data), "\n")
	for i := 0; i < len(lines); i++ {
		verb, rest, _ := strings.Cut(strings.TrimSpace(lines[i]), " ")
		at := file + ":" + strconv.Itoa(i+1)
		switch verb {
		case "", "#":
		case "given":
			var body []string
			for i++; i < len(lines) && strings.TrimSpace(lines[i]) != ""; i++ {
				body = append(body, lines[i])
			}
			r, err := fhir.Parse([]byte(strings.Join(body, "\n")))
			if err != nil {
				t.Fatalf("%s: %v", at, err)
			}
			s.names, s.resources = append(s.names, rest), append(s.resources, r)
		case "find":
			s.find(t, at, rest)
		case "expect":
			s.expect(t, at, rest)
		default:
			t.Fatalf("%s: what is %q? given, find or expect", at, verb)
		}
	}
}

func (s *story) find(t *testing.T, at, what string) {
	what, lenient := strings.CutPrefix(what, "leniently ")
	typ, rawQuery, _ := strings.Cut(what, "?")
	v, err := url.ParseQuery(rawQuery)
	if err != nil {
		t.Fatalf("%s: %v", at, err)
	}
	s.query, s.issues, s.err = Parse(typ, v, !lenient)
	s.query.Base = "https://us.example/fhir"
	s.asked = true
}

func (s *story) expect(t *testing.T, at, what string) {
	t.Helper()
	if !s.asked {
		t.Fatalf("%s: expect before find", at)
	}
	if part, ok := strings.CutPrefix(what, "error "); ok {
		if s.err == nil || !strings.Contains(s.err.Error(), strings.Trim(part, `"`)) {
			t.Errorf("%s: error %v, want one saying %s", at, s.err, part)
		}
		return
	}
	if s.err != nil {
		t.Errorf("%s: unexpected error: %v", at, s.err)
		return
	}
	if part, ok := strings.CutPrefix(what, "warning "); ok {
		if !slices.ContainsFunc(s.issues, func(i *fhir.Issue) bool {
			return i.Severity == fhir.Warning && strings.Contains(i.Error(), strings.Trim(part, `"`))
		}) {
			t.Errorf("%s: warnings %v, want one saying %s", at, s.issues, part)
		}
		return
	}
	var want, got []string
	if what != "nobody" {
		want = strings.Split(what, ", ")
	}
	for i, r := range s.resources {
		ok, err := Matches(s.query, r)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		if ok {
			got = append(got, s.names[i])
			checkFindable(t, s.query, r)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s: found %v, want %v", at, got, want)
	}
}

// checkFindable holds the index to its guarantee: what matches is found by every look-up.
func checkFindable(t interface {
	Helper()
	Errorf(string, ...any)
}, q Query, r *fhir.Resource) {
	t.Helper()
	for _, plan := range Keys(q) {
		if !slices.ContainsFunc(plan, func(k Range) bool {
			for name, value := range Values(r) {
				if k.Holds(name, value) {
					return true
				}
			}
			return false
		}) {
			t.Errorf("%s matches %v, but none of its index values lies in %q", r.Raw(), q.Params, plan)
		}
	}
}
