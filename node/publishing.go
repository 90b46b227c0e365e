package node

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"tombolo/audit"
	"tombolo/connector"
	"tombolo/connector/nrl"
	"tombolo/dataset"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/locator"
	"tombolo/mpi"
	"tombolo/policy"
	"tombolo/region"
)

// How often pointers are kept up with what changes, and everybody is looked at again.
const (
	publishPause = time.Second
	agreedEvery  = 15 * time.Second // whether what is agreed has changed
	resweepEvery = 6 * time.Hour
)

// A publishing is a locator that is told of pointers, with what tells it.
type publishing struct {
	national
	*locator.Publisher
	forms []published
}

// A published is one type of pointer that is registered there.
type published struct {
	region.Published
	form nrl.Form
}

// publish makes what registers this region's pointers with the locators above it, as the region file says.
func (n *Node) publish() error {
	settings, err := n.practiceSettings()
	if err != nil {
		return err
	}
	for _, nat := range n.nationals {
		if len(nat.Publishes) == 0 {
			continue
		}
		p := publishing{national: nat}
		for _, one := range nat.Publishes {
			t, _ := nrl.TypeNamed(one.Type)
			f := nrl.Form{Type: t, Custodian: nat.As, URL: one.URL, Mechanism: nrl.Mechanism(one.Mechanism), Content: one.Content, ASID: one.ASID,
				Setting: fhir.Coding{System: fhir.SystemSNOMED, Code: one.Setting.Code, Display: one.Setting.Display}, SettingsListed: settings}
			if err := f.Check(); err != nil {
				return fmt.Errorf("locator %s: publishes %s: %w", nat.ID, one.Type, err)
			}
			p.forms = append(p.forms, published{one, f})
		}
		p.Publisher = locator.NewPublisher(locator.PublisherOptions{Locator: nat.ID, DB: n.store, Key: n.stamper.Key, To: nat.client, Want: n.wanting(p), PersonOf: n.People.PersonOf,
			People: n.People.All, Settled: n.settled, Written: n.written(nat.ID), Now: n.c.Now, Logger: n.c.Logger})
		n.publishers = append(n.publishers, p)
		n.followers = append(n.followers, n.follower("publish-"+nat.ID, p.Handle))
		turn := n.lease("publish-" + nat.ID)
		n.keepers = append(n.keepers,
			keeper{publishPause, "keep the pointers at " + nat.ID + " up to date", inTurn(turn, p.catchUp)},
			keeper{agreedEvery, "see whether what may be told to " + nat.ID + " has changed", inTurn(turn, n.whenAgreed(p.Sweep))},
			keeper{resweepEvery, "look at everybody's pointers at " + nat.ID, inTurn(turn, p.Sweep)})
	}
	return nil
}

// whenAgreed does something once each time that what is agreed has changed, and each day, since agreements, stages of release and sign-offs begin and end by day.
func (n *Node) whenAgreed(do func(context.Context) error) func(context.Context) error {
	done := ""
	return func(ctx context.Context) error {
		_, sensitive, data := n.agreed.InForce()
		is := data.Version + " " + sensitive.Version() + " " + n.c.Now().In(fhir.London).Format(time.DateOnly)
		if is == done {
			return nil
		}
		if err := do(ctx); err != nil {
			return err
		}
		done = is
		return nil
	}
}

// catchUp does pass after pass while there is something to do and it is surely this node's turn.
func (p publishing) catchUp(ctx context.Context) error {
	for start := time.Now(); time.Since(start) < leaseTime/3; {
		more, err := p.Step(ctx)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// settled returns once who is who, who holds what and what people have chosen are known as the log has them now.
func (n *Node) settled(ctx context.Context) error {
	tail, err := n.store.Tail(ctx)
	if err != nil {
		return err
	}
	if err := n.Await(ctx, tail); err != nil {
		return err
	}
	at, err := n.store.LoadCursor(ctx, locator.FollowerName) // while the pointers are made anew they are no ground for anything
	if err == nil && at < tail {
		err = fhir.Errorf(fhir.Transient, "the pointers are being made anew: event %d of %d", at, tail)
	}
	return err
}

// wanting says which pointers there should be about somebody at a locator: of whom its party to our agreements may be told, by what they have chosen and what each
// source shares. Somebody who has died, or whose whereabouts must not be known, has none.
func (n *Node) wanting(to publishing) func(context.Context, string) ([]locator.Wanted, error) {
	return func(ctx context.Context, id string) ([]locator.Wanted, error) {
		p, err := n.People.Person(ctx, id)
		if fhir.Is(err, fhir.NotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		subject, err := nrl.ParseNumber(p.NHSNumber)
		if err != nil || p.ID != id || p.Restricted || p.Deceased != "" {
			return nil, nil //nolint:nilerr // no number, or none that is right: nobody can be pointed to by it
		}
		held, types, err := n.shared(ctx, to, p)
		if err != nil {
			return nil, err
		}
		var out []locator.Wanted
		for _, one := range to.forms {
			wanted := false
			switch {
			case len(one.Headings) > 0:
				wanted = slices.ContainsFunc(one.Headings, func(h dataset.Heading) bool { return held[h] })
			case one.Type == region.ClinicalSummary:
				wanted = len(held) > 0
			default:
				wanted = types[one.form.Type.ID]
			}
			if wanted {
				out = append(out, locator.Wanted{Form: one.form, Subject: subject})
			}
		}
		return out, nil
	}
}

// shared is what this region's sources hold about somebody, of what may be told to a locator's party: headings, and national types of documents. A practice that is
// asked live, and where they are no longer registered, is passed over.
func (n *Node) shared(ctx context.Context, to publishing, p *mpi.Person) (held map[dataset.Heading]bool, types map[string]bool, err error) {
	agreed, _, data := n.agreed.InForce()
	f := policy.Facts{Subject: policy.Subject{Role: policy.Neighbour, Organisation: to.Organisation, Above: agreed.Above(to.Organisation)}, Purpose: policy.DirectCare,
		Relationships: []policy.Relationship{policy.SelfClaimed, policy.KnownHere}, Agreements: agreed.Agreements, Believed: policy.BelievedBy(agreed), Data: data, Channel: policy.Between, At: n.c.Now()}
	if f.Person, err = n.stands(ctx, p); err != nil {
		return nil, nil, err
	}
	lead, err := n.Gather.Lead(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	held, types = map[dataset.Heading]bool{}, map[string]bool{}
	for _, sys := range agreed.Systems {
		ids := p.PatientIDs(sys.ID)
		if len(ids) == 0 || sys.Connector == "pds" { // a register says who somebody is, and holds no record of them
			continue
		}
		pointers, err := n.Locator.Of(ctx, ids...)
		if err != nil {
			return nil, nil, err
		}
		if len(pointers) == 0 {
			continue
		}
		f.Source = policy.SourceOf(sys, agreed)
		open, err := n.openly(ctx, f, ids, lead)
		if err != nil {
			return nil, nil, err
		}
		org, _ := agreed.Organisation(sys.Organisation)
		for h, way := range sys.Gives {
			if way.Asked() && org.Kind == region.KindGP && p.Practice != "" && agreed.Current(p.Practice) != agreed.Current(org.ODS) {
				continue
			}
			for _, ptr := range pointers {
				held[h] = held[h] || ptr.Headings[h].Count > 0 && (way.Asked() && open.live(h) || open.kept[h])
			}
		}
		for _, ptr := range pointers {
			for ref, t := range ptr.Types {
				if h := givenAs(sys, headingOfType(t)); h != "" {
					types[t] = types[t] || open.refs[ref] && open.may(h, ref)
				}
			}
		}
	}
	for h, there := range held {
		if !there {
			delete(held, h)
		}
	}
	return held, types, nil
}

// open is what a locator may be told that one source holds about somebody.
type open struct {
	kept map[dataset.Heading]bool             // something may be told of under the heading
	refs map[fhir.Ref]bool                    // of these
	live func(dataset.Heading) bool           // whether the heading may be told of, whoever made what is there: of what the source is asked live only how much there is is known
	may  func(dataset.Heading, fhir.Ref) bool // and of what made this
}

// openly decides on each entry that a source has sent: what bears a label is not pointed to, by itself or for what it belongs to, and nor is what the person does not
// want known.
func (n *Node) openly(ctx context.Context, f policy.Facts, ids []string, lead *policy.Trail) (open, error) {
	out := open{kept: map[dataset.Heading]bool{}, refs: map[fhir.Ref]bool{}}
	filters := map[dataset.Heading]*policy.Filter{}
	filter := func(h dataset.Heading) *policy.Filter {
		if filters[h] == nil {
			f.Heading = h
			filters[h] = policy.NewFilter(f)
		}
		return filters[h]
	}
	made := map[fhir.Ref]*policy.Units{}
	unitOf := func(ref fhir.Ref) *policy.Units {
		if u, ok := made[ref]; ok || !f.Source.Divided() {
			return u
		}
		return policy.Unknown
	}
	out.may = func(h dataset.Heading, ref fhir.Ref) bool {
		return filter(h).Permits(&policy.Item{Labels: f.Source.Labels, Units: unitOf(ref)})
	}
	out.live = func(h dataset.Heading) bool { return out.may(h, "") }
	var all []*fhir.Resource
	for r, err := range n.store.Patient(ctx, ids...) {
		if err == nil { // what is damaged is shown to nobody
			all = append(all, r)
		}
	}
	_, sensitive, _ := n.agreed.InForce()
	labels := sensitive.LabelsLed(all, lead, f.Source.Organisation)
	if f.Source.Divided() {
		for i, u := range policy.UnitsOf(all, n.ofSource(ctx, f.Source.System)) {
			made[all[i].Ref()] = u
		}
	}
	var linked policy.Linked
	for i, r := range all {
		h := dataset.HeadingOf(r)
		if h == "" || labels[i].Sealed() {
			continue
		}
		x, it := filter(h), &policy.Item{}
		if x.NeedsItems() {
			if it = policy.ItemOf(r, 0); linked == nil {
				linked = x.Follow(all)
			}
			it.Linked = linked
		}
		if it.Labels, it.Units = labels[i]|f.Source.Labels, unitOf(r.Ref()); x.Permits(it) {
			out.kept[h], out.refs[r.Ref()] = true, true
		}
	}
	return out, ctx.Err()
}

// ofSource reads what one source has sent; nil for what is not there, cannot be read, or is another's.
func (n *Node) ofSource(ctx context.Context, source string) func(fhir.Ref) *fhir.Resource {
	return func(ref fhir.Ref) *fhir.Resource {
		r, err := n.store.Read(ctx, ref)
		if err != nil || connector.SourceOf(r) != source {
			return nil
		}
		return r
	}
}

// headingOfType is where documents of a national type are read.
func headingOfType(id string) dataset.Heading {
	f := nrl.Form{Mechanism: nrl.Direct, Setting: fhir.Coding{System: fhir.SystemSNOMED}}
	f.Type, _ = nrl.TypeOf(id)
	return dataset.HeadingOf(f.Make("", "").Resource)
}

// givenAs is the heading under which a system gives what is read under another: that one, documents, or plans.
func givenAs(sys region.System, h dataset.Heading) dataset.Heading {
	for _, as := range []dataset.Heading{h, dataset.Documents, dataset.CarePlans} {
		if sys.Gives[as] != "" {
			return as
		}
	}
	return ""
}

// written audits what a locator is about to be told of somebody.
func (n *Node) written(to string) func(context.Context, string, string, nrl.Number, string, string) error {
	kinds := map[string]audit.Kind{"register": audit.Create, "change": audit.Update, "withdraw": audit.Delete}
	return func(ctx context.Context, act, person string, subject nrl.Number, typ, pointer string) error {
		e := audit.Event{Kind: kinds[act], PersonID: person, Purpose: policy.DirectCare.Code(), Query: "NRL " + act, Agent: audit.Agent{User: "tombolo", Name: "Tombolo"},
			What: []string{"locator: " + to, "type: " + typ, "pointer: " + pointer, "policy: " + policy.Version}}
		e.NHSNumber, _ = fhir.ParseNHSNumber(subject.Digits())
		if _, err := n.Audit.Append(ctx, e); err != nil {
			return fhir.Errorf(fhir.NoStore, "it could not be recorded, so it is not done: %w", err)
		}
		return nil
	}
}

// saw notes what a live source holds, and has whoever publishes look.
func (n *Node) saw(ctx context.Context, source, patient string, counts map[dataset.Heading]int) error {
	changed, err := n.Locator.Saw(ctx, source, patient, counts, n.c.Now())
	if err != nil || !changed {
		return err
	}
	for _, p := range n.publishers {
		if err := p.Mark(ctx, patient); err != nil {
			return err
		}
	}
	return nil
}

// follow runs a follower. That of the pointers begins again where they are made anew.
func (n *Node) follow(ctx context.Context, f *events.Follower) error {
	if f.Name != locator.FollowerName {
		return f.Run(ctx)
	}
	for {
		running, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- f.Run(running) }()
		err := n.untilStale(running, done)
		stop()
		if err != nil {
			return err
		}
		<-done
		for err := n.Locator.Prepare(ctx); err != nil; err = n.Locator.Prepare(ctx) {
			n.c.Logger.Warn("the pointers could not be made anew yet", "error", err)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
			}
		}
	}
}

// lookForRenewal is how often it is looked whether somebody has dropped the pointers while nothing else happens.
const lookForRenewal = 5 * time.Second

// untilStale waits until the pointers have been dropped: nil. An error is that of the follower, which has stopped.
func (n *Node) untilStale(ctx context.Context, done <-chan error) error {
	for {
		select {
		case err := <-done:
			return err
		case <-n.Locator.Renewed():
			return nil
		case <-time.After(lookForRenewal):
			if stale, err := n.Locator.Stale(ctx); stale && err == nil {
				return nil
			}
		}
	}
}

// pointedTo is the person to whom one of this region's pointers leads.
func (n *Node) pointedTo(ctx context.Context, pointer string) (person string, err error) {
	err = fhir.Errorf(fhir.NotFound, "there is no such pointer")
	for _, p := range n.publishers {
		if person, err = p.Person(ctx, pointer); err == nil {
			break
		}
	}
	return person, err
}

// followed leads whoever follows one of this region's pointers to the record that it points to. The page decides whether they may see it; an id that is no pointer's
// leads to the page that is told of nobody, so that nothing can be learned by trying.
func (n *Node) followed(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("pointer")
	if person, err := n.pointedTo(r.Context(), id); err == nil {
		id = person
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, "/record/"+url.PathEscape(id), http.StatusSeeOther)
}
