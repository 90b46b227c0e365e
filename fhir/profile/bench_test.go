package profile

import (
	"fmt"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/fhir/r4"
)

// BenchmarkCheck is what holding R4's examples costs: to their structure alone, with invariants, and UK Core's examples to their profiles.
func BenchmarkCheck(b *testing.B) {
	of := func(b *testing.B, all map[string]*fhir.Resource, check func(*fhir.Resource)) {
		bytes := 0
		for _, r := range all {
			bytes += len(r.Raw())
		}
		b.SetBytes(int64(bytes))
		b.ReportAllocs()
		for b.Loop() {
			for _, r := range all {
				check(r)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(len(all)), "µs/resource")
	}
	core := examples(b, "r4-examples")
	b.Run("structure", func(b *testing.B) { of(b, core, func(r *fhir.Resource) { r4.Check(r, r4.Whole) }) })
	b.Run("invariants", func(b *testing.B) { of(b, core, func(r *fhir.Resource) { R4().Check(r) }) })
	d := ukCore(b)
	b.Run("UK Core", func(b *testing.B) {
		of(b, examples(b, "ukcore-examples"), func(r *fhir.Resource) {
			if u := profileOf(d, r); u != "" {
				d.Check(r, u)
			} else {
				d.Check(r)
			}
		})
	})
}

// A resource as large as the API takes is checked in bounded work: what is not looked at is told.
func TestLargeResourcesAreCheckedInBounds(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"resourceType":"Bundle","type":"collection","entry":[`)
	for i := range 20_000 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"fullUrl":"urn:uuid:%08d-0000-4000-8000-000000000000","resource":{"resourceType":"Patient","name":[{"family":"x"}],"contained":[{"resourceType":"Organization","id":"o","name":"x"}],"managingOrganization":{"reference":"#o"}}}`, i)
	}
	b.WriteString(`]}`)
	if issues := Errors(R4().Check(parse(t, b.String()))); len(issues) > 0 {
		t.Errorf("it is right: %v", issues[0])
	}
	var c strings.Builder
	c.WriteString(`{"resourceType":"Patient","contained":[`)
	for i := range 3_000 {
		if i > 0 {
			c.WriteByte(',')
		}
		fmt.Fprintf(&c, `{"resourceType":"Organization","id":"o%d","name":"x"}`, i)
	}
	c.WriteString(`]}`)
	told := false
	for _, i := range R4().Check(parse(t, c.String())) {
		told = told || i.Type == fhir.TooCostly || strings.HasPrefix(i.Text, "dom-3")
	}
	if !told {
		t.Error("that nobody refers to what is contained, or that it was not found out, is told")
	}
}
