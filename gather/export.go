package gather

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"

	"tombolo/audit"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/policy"
	"tombolo/region"
)

// An export gives away all that this node keeps, as it keeps it: so that nobody is locked in, and for the person who asks for their own.
// Whoever may run it holds the store itself, so policy is not asked, and nothing is withheld but where people are whose whereabouts must not be known, unless that is asked
// for as well: files go further than stores do. Each person's is a disclosure like
// any other, and is in the audit log before its first byte (design law 5).

// An ExportAsk says who exports, why, and how much.
type ExportAsk struct {
	By     audit.Agent
	Reason string // in words; may be empty
	Trace  string // of the whole export
	// Number is what the person was asked for by, if it was a number: it is recorded also where it leads to nobody.
	Number fhir.Identifier
	// Shared adds what the record refers to and is nobody's by itself: who, where, which product. Without it the export of a whole node
	// gives each of them once, by ExportShared.
	Shared bool
	// Located gives also where people are whose whereabouts must not be known (docs/adr/0021).
	Located bool
	// Raw gives a delivery as it came, by its SHA-256; nil: they are left out.
	Raw func(ctx context.Context, hash string) ([]byte, error)
}

// An Exported says what an export gave.
type Exported struct {
	Resources int
	Damaged   []error // what is kept and could not be read; each names its resource
}

// recordManagement is the purpose of an export. FHIR R4 v3-PurposeOfUse
const recordManagement = "RECORDMGT"

// versioned is how a resource is written in the audit log.
func versioned(r *fhir.Resource) string {
	if v := r.Text("meta.versionId"); v != "" {
		return string(r.Ref()) + "/_history/" + v
	}
	return string(r.Ref())
}

// Export gives all that is kept about a person to write, once it is recorded that it does: who they are, with the links to their patients at
// each source, and those patients' records. What somebody changes meanwhile is given as it was recorded. fhir.NotFound if there is nobody.
func (g *Gatherer) Export(ctx context.Context, ask ExportAsk, personID string, write func(*fhir.Resource) error) (Exported, error) {
	p, err := g.o.People.Person(ctx, personID)
	if fhir.Is(err, fhir.NotFound) {
		e := ask.Event(audit.Search, "")
		e.Outcome, e.What = audit.Minor, append(e.What, "found: nobody")
		if ask.Number.System == fhir.SystemNHSNumber {
			e.NHSNumber, _ = fhir.ParseNHSNumber(ask.Number.Value)
		}
		if err := g.remember(ctx, e); err != nil {
			return Exported{}, err
		}
		return Exported{}, fhir.Errorf(fhir.NotFound, "nobody has that id here")
	}
	if err != nil {
		return Exported{}, err
	}
	h := &holding{g: g, ask: ask, event: ask.Event(audit.Export, p.ID), write: write}
	d := policy.Decision{}
	if p.Restricted && !ask.Located {
		d.Obligations = append(d.Obligations, policy.WithholdLocation)
		h.event.What = append(h.event.What, "obligation: "+string(policy.WithholdLocation))
		h.ask.Raw, h.hide = nil, g.placeless(p)
	}
	who := g.shown(p, d)
	h.event.NHSNumber = who.NHSNumber
	for _, pt := range p.Patients {
		h.patients = append(h.patients, pt.ID)
	}
	h.own = []*fhir.Resource{linked(who.Resource(), p)}
	return h.export(ctx)
}

// placeless gives each resource of a restricted person without what would tell where they are.
func (g *Gatherer) placeless(p *mpi.Person) func(*fhir.Resource) *fhir.Resource {
	places := (&opening{g: g, person: p}).whereabouts()
	return func(r *fhir.Resource) *fhir.Resource {
		l := &lane{}
		l.Source = connector.SourceOf(r)
		if sys, ok := g.o.Region.System(l.Source); ok {
			if l.Kind = string(g.organisation(sys.Organisation).Kind); l.Kind == string(region.KindGP) {
				l.Source = "gp-practice"
			}
		}
		return places.withhold(r, l)
	}
}

// ExportPatient is Export of what is kept about a source's patient who is linked to nobody, such as one that the source deleted.
func (g *Gatherer) ExportPatient(ctx context.Context, ask ExportAsk, patientID string, write func(*fhir.Resource) error) (Exported, error) {
	h := &holding{g: g, ask: ask, event: ask.Event(audit.Export, patientID), write: write, patients: []string{patientID}}
	h.event.What = append(h.event.What, "linked: to nobody")
	return h.export(ctx)
}

// ExportShared gives what a source sent and is nobody's record: organisations, practitioners, locations, products.
func (g *Gatherer) ExportShared(ctx context.Context, ask ExportAsk, source string, write func(*fhir.Resource) error) (out Exported, err error) {
	e := ask.Event(audit.Export, "")
	e.What = append(e.What, "nobody's record: all that "+source+" sent of it")
	if err := g.remember(ctx, e); err != nil {
		return out, err
	}
	for r, err := range g.o.Kept.Source(ctx, source) {
		if fhir.Is(err, fhir.Exception) {
			out.Damaged = append(out.Damaged, err)
			continue
		}
		if err == nil {
			err = write(r)
		}
		if err != nil {
			return out, err
		}
		out.Resources++
	}
	return out, nil
}

// Event is the audit entry of the export, or of a part of it, to be filled in.
func (a ExportAsk) Event(kind audit.Kind, person string) audit.Event {
	e := audit.Event{Kind: kind, Agent: a.By, Purpose: recordManagement, PersonID: person, Query: "export", Trace: a.Trace}
	if a.Reason != "" {
		e.What = []string{"reason: " + a.Reason}
	}
	return e
}

// linked adds the links to the person's patients at their sources. FHIR R4 patient-definitions.html#Patient.link
func linked(r *fhir.Resource, p *mpi.Person) *fhir.Resource {
	var links []fhir.M
	for _, pt := range p.Patients {
		links = append(links, fhir.M{"other": fhir.Reference{Reference: "Patient/" + pt.ID}, "type": "seealso"})
	}
	return r.With("link", links)
}

// A holding is what one export gives of one person. It is read twice, so that a long record need not be held in memory: to record what
// will be given, and to give it.
type holding struct {
	g        *Gatherer
	ask      ExportAsk
	event    audit.Event
	write    func(*fhir.Resource) error
	patients []string
	own      []*fhir.Resource // what this node itself knows of them
	// pick says in which version a resource is given, if at all; nil: all as they are.
	pick func(ctx context.Context, r *fhir.Resource) (*fhir.Resource, error)

	// hide takes off what is not to be told; nil: nothing.
	hide func(r *fhir.Resource) *fhir.Resource

	versions map[fhir.Ref]string   // what was recorded as given
	headings map[string][]string   // the same, by heading
	others   map[fhir.Ref]struct{} // what it refers to and is nobody's record
	raws     map[string]struct{}   // deliveries that it came in
	out      Exported
}

func (h *holding) export(ctx context.Context) (Exported, error) {
	h.versions, h.headings, h.others, h.raws = map[fhir.Ref]string{}, map[string][]string{}, map[fhir.Ref]struct{}{}, map[string]struct{}{}
	for r, err := range h.g.o.Kept.Patient(ctx, h.patients...) {
		if fhir.Is(err, fhir.Exception) {
			h.out.Damaged = append(h.out.Damaged, err)
			continue
		}
		if err == nil && h.pick != nil {
			r, err = h.pick(ctx, r)
		}
		if err != nil {
			return h.out, err
		}
		if r != nil {
			h.note(h.shape(r))
		}
	}
	if h.pick != nil && len(h.versions) == 0 {
		return h.out, nil // nothing of it is wanted
	}
	shared, err := h.shared(ctx)
	if err != nil {
		return h.out, err
	}
	if err := h.g.remember(ctx, h.said(shared)); err != nil {
		return h.out, err
	}
	for _, r := range h.own {
		if err := h.give(r); err != nil {
			return h.out, err
		}
	}
	if err := h.giveKept(ctx); err != nil {
		return h.out, err
	}
	for _, r := range shared {
		if err := h.give(r); err != nil {
			return h.out, err
		}
	}
	return h.out, h.giveRaw(ctx)
}

// note takes in what a resource of the record is, and what it leads to.
func (h *holding) note(r *fhir.Resource) {
	heading := string(dataset.HeadingOf(r))
	switch {
	case r.Type() == "Binary":
		heading = string(dataset.Documents)
	case heading == "":
		heading = "other"
	}
	v := versioned(r)
	h.versions[r.Ref()] = v
	h.headings[heading] = append(h.headings[heading], v)
	_, _ = fhir.MapReferences(r, func(_ fhir.Value, ref string) ([]byte, bool) {
		if supporting[fhir.Ref(ref).Type()] {
			h.others[fhir.Ref(ref)] = struct{}{}
		}
		return nil, false
	})
	if h.ask.Raw == nil || r.Type() != "Provenance" {
		return
	}
	for x := range r.Value().All("entity.extension") {
		if x.Text("url") == connector.ExtensionRaw {
			h.raws[x.Text("valueString")] = struct{}{}
		}
	}
}

// shared reads what the record refers to and is nobody's.
func (h *holding) shared(ctx context.Context) ([]*fhir.Resource, error) {
	if !h.ask.Shared {
		return nil, nil
	}
	var out []*fhir.Resource
	for _, ref := range slices.Sorted(maps.Keys(h.others)) {
		if _, own := h.versions[ref]; own {
			continue
		}
		r, err := h.g.o.Kept.Read(ctx, ref)
		switch {
		case fhir.Is(err, fhir.NotFound), fhir.Is(err, fhir.Deleted): // it was never sent, or is no more
		case fhir.Is(err, fhir.Exception):
			h.out.Damaged = append(h.out.Damaged, err)
		case err != nil:
			return nil, err
		case PatientOf(r) == "":
			out = append(out, r)
		}
	}
	return out, nil
}

// said is the event of the disclosure, with every version that is given.
func (h *holding) said(shared []*fhir.Resource) audit.Event {
	e := h.event
	for _, heading := range slices.Sorted(maps.Keys(h.headings)) {
		refs := h.headings[heading]
		sort.Strings(refs)
		e.What = append(e.What, heading+": "+strings.Join(refs, " "))
	}
	var refs []string
	for _, r := range shared {
		refs = append(refs, versioned(r))
	}
	if len(refs) > 0 {
		e.What = append(e.What, "referred to: "+strings.Join(refs, " "))
	}
	if len(h.raws) > 0 {
		e.What = append(e.What, "deliveries as they came: "+strings.Join(slices.Sorted(maps.Keys(h.raws)), " "))
	}
	if len(h.out.Damaged) > 0 {
		e.What = append(e.What, fmt.Sprintf("damaged and not given: %d", len(h.out.Damaged)))
	}
	return e
}

// giveKept gives the record, each resource in the version that was recorded.
func (h *holding) giveKept(ctx context.Context) error {
	for r, err := range h.g.o.Kept.Patient(ctx, h.patients...) {
		if fhir.Is(err, fhir.Exception) {
			continue // told of already, or what was recorded is read below
		}
		if err != nil {
			return err
		}
		if h.versions[r.Ref()] != versioned(r) {
			continue // it came, or was changed, since
		}
		delete(h.versions, r.Ref())
		if err := h.give(h.shape(r)); err != nil {
			return err
		}
	}
	for _, ref := range slices.Sorted(maps.Keys(h.versions)) {
		_, v, _ := strings.Cut(h.versions[ref], "/_history/")
		version, _ := strconv.Atoi(v)
		r, err := h.g.o.Kept.ReadVersion(ctx, ref, version)
		if err != nil {
			h.out.Damaged = append(h.out.Damaged, err)
			continue
		}
		if err := h.give(h.shape(r)); err != nil {
			return err
		}
	}
	return nil
}

// shape is a resource as it is given.
func (h *holding) shape(r *fhir.Resource) *fhir.Resource {
	if h.hide == nil {
		return r
	}
	return h.hide(r)
}

func (h *holding) giveRaw(ctx context.Context) error {
	for _, hash := range slices.Sorted(maps.Keys(h.raws)) {
		raw, err := h.ask.Raw(ctx, hash)
		if fhir.Is(err, fhir.NotFound) {
			h.out.Damaged = append(h.out.Damaged, fmt.Errorf("the delivery %s is not kept", hash))
			continue
		}
		if err == nil {
			err = h.give(Delivered(hash, raw))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *holding) give(r *fhir.Resource) error {
	if err := h.write(r); err != nil {
		return err
	}
	h.out.Resources++
	return nil
}

// Delivered is a delivery as it came, under its SHA-256: what the Provenance of what was made of it names. FHIR R4 binary.html
func Delivered(hash string, raw []byte) *fhir.Resource {
	return fhir.New("Binary", hash, fhir.M{"contentType": "application/octet-stream", "data": raw})
}

// NotHeld says what an export cannot hold: what sources are asked for when a record is opened, and keep themselves.
func (g *Gatherer) NotHeld() []*fhir.Issue {
	var out []*fhir.Issue
	for _, sys := range g.o.Region.Systems {
		var live []string
		for _, info := range dataset.All {
			if sys.Gives[info.Heading] == region.Live {
				live = append(live, string(info.Heading))
			}
		}
		if len(live) > 0 {
			name := sys.Name
			if name == "" {
				name = g.organisation(sys.Organisation).Name
			}
			i := fhir.Errorf(fhir.Incomplete, "%s is asked when a record is opened, and keeps its own: ask it for %s", name, strings.Join(live, ", ")).From(sys.ID)
			i.Severity = fhir.Warning
			out = append(out, i)
		}
	}
	for _, n := range g.o.Region.Neighbours {
		i := fhir.Errorf(fhir.Incomplete, "the region %s is asked when a record is opened, and keeps its own", n.ID).From(n.ID)
		i.Severity = fhir.Warning
		out = append(out, i)
	}
	return out
}
