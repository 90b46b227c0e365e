package gather

import (
	"context"
	"slices"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/ips"
)

// IPS writes the record as an International Patient Summary. base is the service's base URL, name that of who puts it together.
func (r *Record) IPS(base, name, version string) []byte {
	out := ips.Record{Patient: r.patient(), Supporting: r.Supporting, At: r.At, Base: base, Author: name, Version: version, Notices: []string{r.Summary(), r.Notice}}
	for _, s := range r.Sections {
		p := ips.Part{Heading: s.Heading, State: s.State, Unknown: s.Unknown, NotShared: s.NotShared, Reach: s.Reach}
		for _, e := range s.Entries {
			p.Resources = append(p.Resources, e.resource())
			for _, rel := range e.Related {
				p.Resources = append(p.Resources, rel.resource())
			}
		}
		out.Parts = append(out.Parts, p)
	}
	return ips.Document(out)
}

// Summary is a patient's record as this system holds it, as an International Patient Summary. It is audited. That nothing is held under a heading says nothing of whether
// there is anything: the system has not said so.
func (o *Own) Summary(ctx context.Context, patient fhir.Ref, base, name, version string) ([]byte, error) {
	all, err := o.Record(ctx, patient)
	if err != nil {
		return nil, err
	}
	if err := o.Show(ctx, string(patient)+"/$summary", all); err != nil {
		return nil, err
	}
	out := ips.Record{Patient: all[0], Supporting: map[fhir.Ref]*fhir.Resource{}, At: o.g.o.Now(), Base: base, Author: name, Version: version,
		Notices: []string{"Of what one system holds: others may hold more."}}
	parts := map[dataset.Heading]*ips.Part{}
	for _, info := range dataset.All {
		parts[info.Heading] = &ips.Part{Heading: info.Heading, State: dataset.NotKnown}
	}
	for _, r := range all[1:] {
		if besides[r.Type()] {
			out.Supporting[r.Ref()] = r
		}
		if p := parts[dataset.HeadingOf(r)]; p != nil {
			p.State, p.Resources = dataset.Present, append(p.Resources, r)
		}
	}
	for _, info := range dataset.All {
		p := *parts[info.Heading]
		slices.SortStableFunc(p.Resources, func(a, b *fhir.Resource) int { return -compareDates(dataset.When(a), dataset.When(b)) })
		out.Parts = append(out.Parts, p)
	}
	return ips.Document(out), nil
}

func compareDates(a, b string) int {
	x, _ := fhir.ParseDate(a)
	y, _ := fhir.ParseDate(b)
	return x.Start.Compare(y.Start)
}
