package profile

import (
	_ "embed"
	"strings"
	"sync"

	"tombolo/fhir"
	"tombolo/fhir/fhirpath"
)

//go:embed rules.txt
var rulesText string

// A rule is an invariant: FHIRPath that has to be true of an element.
type rule struct {
	key, human string
	severity   fhir.Severity
	expr       *fhirpath.Expr
}

// r4Rules are R4's own, by type ("Period") or path ("Patient.contact").
var r4Rules = sync.OnceValue(func() map[string][]*rule {
	m := map[string][]*rule{}
	for line := range strings.Lines(rulesText) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if strings.HasPrefix(line, "#") || len(f) != 5 {
			continue
		}
		r := &rule{key: f[1], human: f[3], severity: fhir.SevError, expr: fhirpath.MustCompile(f[4])}
		if f[2] == "W" {
			r.severity = fhir.Warning
		}
		m[f[0]] = append(m[f[0]], r)
	}
	return m
})

// narrativeRule asks for a narrative: a resource within another has its container's.
const narrativeRule = "dom-6"

func (c *checker) rules(list []*rule, it fhirpath.Item, at string) {
	for _, r := range list {
		if r.key == narrativeRule && c.inner {
			continue
		}
		ok, err := r.expr.Holds(it, &c.env)
		switch {
		case fhir.Is(err, fhir.TooCostly):
			c.tell(note(fhir.Warning, fhir.TooCostly, at, "whether %s holds was not found out: it takes too much work on this resource. It says: %s", r.key, r.human))
		case err != nil:
			c.tell(note(fhir.Warning, fhir.Processing, at, "whether %s holds could not be found out. It says: %s", r.key, r.human))
		case !ok && r.severity != fhir.SevError:
			c.tell(note(r.severity, fhir.Invariant, at, "%s: %s", r.key, r.human))
		case !ok:
			c.say(fhir.Invariant, at, "%s: %s", r.key, r.human)
		}
	}
}
