package region

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"tombolo/dataset"
	"tombolo/fhir"
)

// DefaultHolds is for how long what a probe found counts in planning if the file does not say.
const DefaultHolds = 30 * 24 * time.Hour

// LeastDeadline is the least time in which a source can be asked anything.
const LeastDeadline = 50 * time.Millisecond

// freshReader reads "fresh: {allergies: 1h}".
var freshReader = reader[Region]{
	read: func(d *decoder, n ast.Node, path string, r *Region) {
		var by map[string]time.Duration
		words(func(*Region) *map[string]time.Duration { return &by }, "a heading of the shared data set", "headings with a duration, such as {allergies: 1h}", headingNames, readFresh, nil).read(d, n, path, r)
		r.Gathering.Fresh = make(map[dataset.Heading]time.Duration, len(by))
		for h, v := range by {
			r.Gathering.Fresh[dataset.Heading(h)] = v
		}
	},
	schema: func() schema { return wordsSchema(headingNames, lately().schema()) },
}

func lately() reader[time.Duration] {
	return duration(func(d *time.Duration) *time.Duration { return d }, time.Second, 90*24*time.Hour)
}

func readFresh(d *decoder, n ast.Node, path string) (time.Duration, bool) {
	var v time.Duration
	lately().read(d, n, path, &v)
	return v, v > 0
}

// TestPatient reads a test patient as the file names them: an NHS number, or SYSTEM|VALUE.
func TestPatient(s string) (fhir.Identifier, error) {
	id := fhir.Identifier{System: fhir.SystemNHSNumber, Value: s}
	if system, value, ok := strings.Cut(s, "|"); ok {
		id = fhir.Identifier{System: system, Value: value}
	}
	id = id.Canonical()
	return id, id.Check()
}

// explains checks who may have a gathering explained.
func (c *checker) explains() {
	for i, e := range c.r.Policy.Explain {
		if e == "citizen" || e == "neighbour" || !slices.Contains(Roles, e) && !activityCode.expr.MatchString(e) {
			fix := "Write a role of this region's own users, or an activity such as B0360"
			if near := fhir.Nearest(e, Roles); near != "" {
				fix = "Did you mean " + near + "?"
			}
			c.err(fmt.Sprintf("policy.explain[%d]", i), fmt.Sprintf("%q is neither a role of this region's own users nor an activity", brief(e)), fix)
		}
	}
}

// probing checks about whom, and as whom, sources are asked for what they can give.
func (c *checker) probing() {
	p := c.r.Probing
	for i, s := range p.Patients {
		at := fmt.Sprintf("probing.patients[%d]", i)
		id, err := TestPatient(s)
		switch {
		case err != nil:
			c.err(at, "not a number by which anybody is known", "Write an NHS number, or SYSTEM|VALUE")
		case id.System == fhir.SystemNHSNumber && !strings.HasPrefix(id.Value, "9"): // NHS Data Dictionary: numbers from 9 are for tests
			c.warn(at, "may be somebody's own number: a test patient's begins with 9", "Ask the sources for the number of their test patient")
		}
	}
	known := slices.ContainsFunc(c.r.Users, func(u User) bool { return u.ID == p.As })
	switch {
	case p.As != "" && !known:
		c.err("probing.as", p.As+" is not among the users", "Add it to users, in a role that opens records")
	case p.As == "" && len(p.Patients) > 0:
		c.err("probing.as", "a source is told who asks about its test patient, and nothing says who", "Add as: the id of one of the users, in a role that opens records")
	case p.Every > 0 && len(p.Patients) == 0:
		c.warn("probing.every", "sources that are asked live cannot be probed without a test patient: of them only what they say of themselves is found", "Add patients: the numbers of the sources' test patients")
	}
}
