package web

import (
	"context"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/access"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/policy"
	"tombolo/region"
	"tombolo/sim/cast"
)

// The day on which everything in these tests happens.
var today = time.Date(2026, 11, 22, 9, 30, 0, 0, fhir.London)

// What each source of the fixture gives, whether it has anything of the person or not.
var gives = map[string][]dataset.Heading{
	cast.GP1: {dataset.Demographics, dataset.Allergies, dataset.Problems, dataset.Medications, dataset.Immunisations, dataset.Encounters, dataset.Observations,
		dataset.Results, dataset.SocialContext, dataset.FamilyHistory, dataset.Referrals},
	cast.Acute:     {dataset.Demographics, dataset.Allergies, dataset.Problems, dataset.Encounters, dataset.Appointments, dataset.Results, dataset.Imaging, dataset.Documents, dataset.Procedures, dataset.PersonalContacts},
	cast.Mental:    {dataset.Demographics, dataset.Allergies, dataset.Problems, dataset.Medications, dataset.Encounters, dataset.CarePlans, dataset.RiskAssessments, dataset.Legal, dataset.Alerts, dataset.ProfessionalContacts},
	cast.Community: {dataset.Encounters, dataset.Appointments, dataset.CarePlans, dataset.EndOfLife, dataset.Devices, dataset.RemoteMonitoring, dataset.Observations, dataset.Alerts},
	cast.Council:   {dataset.SocialCare, dataset.ProfessionalContacts, dataset.PersonalContacts, dataset.Documents, dataset.Legal, dataset.Safeguarding, dataset.AboutMe, dataset.Alerts},
	cast.Ambulance: {dataset.Encounters, dataset.Observations},
}

// A held is one source's version of one fact.
type held struct {
	heading  dataset.Heading
	key      string // facts with the same key are the same thing
	source   string
	resource *fhir.Resource
	under    string // key of the entry it belongs under
}

func code(system, c, display string) any {
	if c == "" {
		return fhir.CodeableConcept{Text: display}
	}
	return fhir.Code(system, c, display)
}

func status(word string) any { return fhir.M{"coding": []fhir.M{{"code": word}}} }

func who(name string) any { return fhir.M{"display": name} }

// facts renders a person of the cast as R4, roughly as the connectors do.
func facts(p cast.Person) []held {
	var out []held
	n := 0
	add := func(h dataset.Heading, key, under string, sources []string, typ string, fields fhir.M) {
		for _, s := range sources {
			n++
			id := connector.Stamper{Key: []byte("test")}.ID(s, typ, key+string(h))
			f := fhir.M{"meta": fhir.M{"source": connector.SourceURI(s) + "#" + p.LocalID(s), "tag": []fhir.Coding{dataset.Tag(h)}}}
			for k, v := range fields {
				if v != nil && v != "" {
					f[k] = v
				}
			}
			out = append(out, held{h, key, s, fhir.New(typ, id, f), under})
		}
	}
	for _, i := range p.Items {
		key := i.Code + i.Display
		note := []fhir.M{{"text": i.Text}}
		if i.Text == "" {
			note = nil
		}
		c := code(i.System, i.Code, i.Display)
		switch i.Heading {
		case dataset.Allergies:
			f := fhir.M{"code": c, "clinicalStatus": status(i.Status), "recordedDate": i.Date, "recorder": who(i.By), "verificationStatus": status("confirmed")}
			if i.Level != "" {
				f["criticality"] = i.Level
			}
			if i.Text != "" {
				f["reaction"] = []fhir.M{{"manifestation": []fhir.CodeableConcept{{Text: i.Text}}}}
			}
			add(i.Heading, key, "", i.Held, "AllergyIntolerance", f)
		case dataset.Problems, dataset.Maternity:
			add(i.Heading, key, "", i.Held, "Condition", fhir.M{"code": c, "clinicalStatus": status(i.Status), "onsetDateTime": i.Date, "abatementDateTime": i.End, "asserter": who(i.By), "note": note})
		case dataset.Immunisations:
			add(i.Heading, key, "", i.Held, "Immunization", fhir.M{"vaccineCode": c, "status": i.Status, "occurrenceDateTime": i.Date, "performer": []fhir.M{{"actor": who(i.By)}}, "note": note})
		case dataset.Observations, dataset.RemoteMonitoring, dataset.SocialContext:
			f := fhir.M{"code": c, "status": i.Status, "effectiveDateTime": i.Date, "performer": []any{who(i.By)}, "note": note}
			if sys, dia, ok := strings.Cut(i.Value, "/"); ok {
				f["component"] = []fhir.M{{"code": fhir.CodeableConcept{Text: "systolic"}, "valueQuantity": fhir.Quantity{Value: "142", Unit: i.Unit}}, {"code": fhir.CodeableConcept{Text: "diastolic"}, "valueQuantity": fhir.Quantity{Value: "84", Unit: i.Unit}}}
				_, _ = sys, dia
			} else if i.Value != "" {
				f["valueQuantity"] = fhir.M{"value": rawNumber(i.Value), "unit": i.Unit}
			}
			add(i.Heading, key, "", i.Held, "Observation", f)
		case dataset.Procedures:
			add(i.Heading, key, "", i.Held, "Procedure", fhir.M{"code": c, "status": i.Status, "performedDateTime": i.Date, "performer": []fhir.M{{"actor": who(i.By)}}})
		case dataset.CarePlans, dataset.SocialCare, dataset.EndOfLife:
			add(i.Heading, key, "", i.Held, "CarePlan", fhir.M{"title": i.Display, "category": []any{c}, "status": i.Status, "intent": "plan", "period": fhir.Period{Start: i.Date, End: i.End}, "description": i.Text, "author": who(i.By)})
		case dataset.RiskAssessments:
			add(i.Heading, key, "", i.Held, "RiskAssessment", fhir.M{"code": c, "status": i.Status, "occurrenceDateTime": i.Date, "performer": who(i.By), "mitigation": i.Text})
		case dataset.Referrals:
			add(i.Heading, key, "", i.Held, "ServiceRequest", fhir.M{"code": c, "status": i.Status, "intent": "order", "authoredOn": i.Date, "requester": who(i.By), "reasonCode": []fhir.CodeableConcept{{Text: i.Text}}})
		case dataset.FamilyHistory:
			add(i.Heading, key, "", i.Held, "FamilyMemberHistory", fhir.M{"status": "completed", "date": i.Date, "relationship": fhir.CodeableConcept{Text: i.Text}, "condition": []fhir.M{{"code": c}}})
		case dataset.Devices:
			add(i.Heading, key, "", i.Held, "Device", fhir.M{"type": c, "status": i.Status, "note": note})
		case dataset.ProfessionalContacts:
			add(i.Heading, key, "", i.Held, "CareTeam", fhir.M{"name": i.Display, "status": i.Status, "period": fhir.Period{Start: i.Date}, "participant": []fhir.M{{"member": who(i.By)}}, "telecom": []fhir.M{{"value": i.Text}}})
		default: // alerts, legal, safeguarding, about me
			add(i.Heading, key, "", i.Held, "Flag", fhir.M{"code": c, "status": i.Status, "period": fhir.Period{Start: i.Date, End: i.End}, "author": who(i.By), "extension": []fhir.M{{"url": "x", "valueString": i.Text}}})
		}
	}
	for _, m := range p.Medications {
		key := m.Code + m.Dose
		f := func(intent, date string) fhir.M {
			out := fhir.M{"status": m.Status, "intent": intent, "medicationCodeableConcept": code(fhir.SystemSNOMED, m.Code, m.Display), "authoredOn": date,
				"dosageInstruction": []fhir.M{{"text": m.Dose}}, "requester": who(m.By), "courseOfTherapyType": fhir.M{"text": m.Type},
				"dispenseRequest": fhir.M{"quantity": fhir.M{"value": rawNumber(m.Quantity), "unit": m.Unit}}}
			if m.For != "" {
				out["reasonCode"] = []fhir.CodeableConcept{{Text: m.For}}
			}
			return out
		}
		add(dataset.Medications, key, "", m.Held, "MedicationRequest", f("plan", m.Start))
		for _, day := range m.Issues {
			issue := f("order", day)
			issue["status"] = "completed"
			delete(issue, "courseOfTherapyType")
			add(dataset.Medications, key+day, key, m.Held, "MedicationRequest", issue)
		}
	}
	for _, e := range p.Encounters {
		f := fhir.M{"status": "finished", "class": fhir.Coding{Code: e.Class}, "type": []fhir.CodeableConcept{{Text: e.Type}}, "period": fhir.Period{Start: e.Start, End: e.End},
			"reasonCode": []fhir.CodeableConcept{{Text: e.Reason}}, "location": []fhir.M{{"location": who(e.Where)}}, "participant": []fhir.M{{"individual": who(e.By + ", " + e.Role)}}}
		if e.Note != "" {
			f["note"] = []fhir.M{{"text": e.Note}}
		}
		add(dataset.Encounters, e.ID, "", e.Held, "Encounter", f)
	}
	for _, a := range p.Appointments {
		add(dataset.Appointments, a.ID, "", a.Held, "Appointment", fhir.M{"status": a.Status, "serviceType": []fhir.CodeableConcept{{Text: a.Type}}, "start": a.Start, "end": a.End, "comment": a.Reason,
			"participant": []fhir.M{{"actor": who(a.With + ", " + a.Role)}, {"actor": fhir.M{"display": a.Where, "type": "Location"}}}})
	}
	for _, r := range p.Reports {
		h := dataset.Results
		if r.Imaging {
			h = dataset.Imaging
		}
		add(h, r.ID, "", r.Held, "DiagnosticReport", fhir.M{"status": r.Status, "code": code(r.System, r.Code, r.Display), "effectiveDateTime": r.Date, "conclusion": r.Text, "performer": []any{who(r.By)}})
		for _, t := range r.Results {
			rr := fhir.M{}
			if t.Low != "" {
				rr["low"] = fhir.M{"value": rawNumber(t.Low)}
			}
			if t.High != "" {
				rr["high"] = fhir.M{"value": rawNumber(t.High)}
			}
			f := fhir.M{"status": "final", "code": code(fhir.SystemSNOMED, t.Code, t.Display), "effectiveDateTime": r.Date, "valueQuantity": fhir.M{"value": rawNumber(t.Value), "unit": t.Unit},
				"referenceRange": []fhir.M{rr}, "category": []any{fhir.Code("x", "laboratory", "")}}
			if t.Flag != "" {
				f["interpretation"] = []any{fhir.Code("x", t.Flag, "")}
			}
			add(h, r.ID+t.Code, r.ID, r.Held, "Observation", f)
		}
	}
	for _, d := range p.Documents {
		add(dataset.Documents, d.ID, "", d.Held, "DocumentReference", fhir.M{"status": "current", "type": code(fhir.SystemSNOMED, d.Code, d.Type), "description": d.Title, "date": d.Date, "author": []any{who(d.By)},
			"content": []fhir.M{{"attachment": fhir.M{"contentType": d.MIME, "size": rawNumber("12345")}}}})
	}
	for _, r := range p.Relations {
		add(dataset.PersonalContacts, r.Name, "", r.Held, "RelatedPerson", fhir.M{"name": []fhir.HumanName{{Text: r.Name}}, "relationship": []fhir.CodeableConcept{{Text: r.Relationship}}, "telecom": []fhir.ContactPoint{{System: "phone", Value: r.Phone}}})
	}
	add(dataset.Demographics, "patient", "", slices.DeleteFunc(slices.Clone(p.Known), func(s string) bool { return !slices.Contains(gives[s], dataset.Demographics) }), "Patient",
		fhir.M{"name": []fhir.M{{"family": p.Family, "given": p.Given, "prefix": []string{p.Prefix}}, {"use": "nickname", "given": []string{p.Preferred}}}, "birthDate": p.Born, "gender": p.Sex})
	return out
}

type rawNumber string

func (n rawNumber) MarshalJSON() ([]byte, error) { return []byte(n), nil }

// A world is a gathered record of one person, lane by lane.
type world struct {
	person cast.Person
	facts  []held
	// broken are lanes that end otherwise than answered.
	broken map[string]gather.Lane
}

func newWorld(p cast.Person) *world {
	return &world{person: p, facts: facts(p), broken: map[string]gather.Lane{}}
}

// margaretsWorld is the main person on a day when the ambulance service does not answer and the acute trust withholds something.
func margaretsWorld() *world {
	w := newWorld(cast.Dozen(today)[0])
	w.broken[cast.Ambulance] = gather.Lane{State: gather.Failed, Took: 2 * time.Second, Issue: fhir.Errorf(fhir.Timeout, "Severn Ambulance Service did not answer within 2 s")}
	return w
}

// record is the record once the named sources have answered, all others still being asked.
func (w *world) record(answered ...string) *gather.Record {
	p := w.person
	nhs, _ := fhir.ParseNHSNumber(p.NHS)
	rec := &gather.Record{At: today, Took: 420 * time.Millisecond, Notice: "Some information may be withheld, or not yet available from its source."}
	rec.Person = gather.Person{ID: "person-1", NHSNumber: nhs, Name: fhir.HumanName{Family: p.Family, Given: p.Given, Prefix: []string{p.Prefix}}, BirthDate: p.Born, Gender: p.Sex,
		Address: &fhir.Address{Line: p.Address, City: p.City, PostalCode: p.Postcode}, Phone: p.Phone, Deceased: p.Died, Practice: p.Practice, Restricted: p.Restricted, Merged: p.OldNHS}
	for _, o := range cast.Organisations {
		if o.ODS == p.Practice {
			rec.Person.PracticeName = o.Name
		}
		hs, ok := gives[o.Source]
		if !ok {
			continue
		}
		l := gather.Lane{Source: o.Source, Name: o.Name, Organisation: o.ODS, Way: "live", State: gather.Asking, Headings: map[dataset.Heading]dataset.State{}}
		if o.Source == cast.Acute || o.Source == cast.Community || o.Source == cast.Council {
			l.Way = "stored"
		}
		for _, h := range hs {
			l.Headings[h] = dataset.NotKnown
		}
		if !p.At(o.Source) {
			l.State = gather.NotHere
		} else if slices.Contains(answered, o.Source) {
			w.answer(&l)
		}
		rec.Lanes = append(rec.Lanes, l)
	}
	for _, i := range dataset.All {
		rec.Sections = append(rec.Sections, w.section(rec, i))
	}
	return rec
}

func (w *world) answer(l *gather.Lane) {
	if b, ok := w.broken[l.Source]; ok {
		l.State, l.Issue, l.Took, l.Warnings = b.State, b.Issue, b.Took, b.Warnings
		for h := range l.Headings {
			if b.State == gather.Refused {
				l.Headings[h] = dataset.NotShared
			}
			if st, ok := b.Headings[h]; ok {
				l.Headings[h] = st
			}
		}
		if b.State != gather.Answered {
			return
		}
	}
	l.State, l.Took = gather.Answered, time.Duration(120+40*len(l.Name))*time.Millisecond
	if l.Way == "stored" {
		l.AsOf = today.Add(-6 * time.Hour)
	}
	for h := range l.Headings {
		l.Headings[h] = dataset.NoneRecorded
	}
	for _, f := range w.facts {
		if f.source == l.Source {
			l.Headings[f.heading] = dataset.Present
			l.Count++
		}
	}
}

func (w *world) section(rec *gather.Record, info dataset.Info) gather.Section {
	s := gather.Section{Heading: info.Heading, Title: info.Title}
	entries := map[string]*gather.Entry{}
	var order []string
	given := false
	for _, l := range rec.Lanes {
		st, ok := l.Headings[info.Heading]
		if !ok || l.State == gather.NotHere {
			continue
		}
		given = true
		switch st {
		case dataset.NotKnown:
			s.Unknown = append(s.Unknown, l.Name)
		case dataset.NotShared:
			s.NotShared = append(s.NotShared, l.Name)
		}
		if l.State != gather.Answered {
			continue
		}
		for _, f := range w.facts {
			if f.source != l.Source || f.heading != info.Heading {
				continue
			}
			m := gather.Member{Resource: f.resource, Source: l.Source, Name: l.Name, Received: today.Add(-2 * time.Hour)}
			if up := entries[f.under]; f.under != "" && up != nil {
				up.Related = append(up.Related, gather.Entry{Lead: f.resource, Members: []gather.Member{m}})
				continue
			}
			e := entries[f.key]
			if e == nil {
				e = &gather.Entry{Lead: f.resource}
				entries[f.key] = e
				order = append(order, f.key)
			}
			e.Members = append(e.Members, m)
		}
	}
	slices.SortStableFunc(order, func(a, b string) int {
		return startOf(tell(thing{entries[b].Lead, nil}).When).Compare(startOf(tell(thing{entries[a].Lead, nil}).When))
	})
	for _, k := range order {
		s.Entries = append(s.Entries, *entries[k])
	}
	flagRamipril(s.Entries)
	switch {
	case len(s.Entries) > 0:
		s.State = dataset.Present
	case !given || len(s.Unknown) > 0:
		s.State = dataset.NotKnown
	case len(s.NotShared) > 0:
		s.State = dataset.NotShared
	default:
		s.State = dataset.NoneRecorded
	}
	return s
}

// flagRamipril marks the dose on which the practice and the trust disagree.
func flagRamipril(entries []gather.Entry) {
	var at []int
	for i, e := range entries {
		if strings.HasPrefix(tell(thing{e.Lead, nil}).What, "Ramipril") {
			at = append(at, i)
		}
	}
	if len(at) == 2 {
		for i, j := range map[int]int{at[0]: at[1], at[1]: at[0]} {
			entries[i].Conflict = "Sources disagree on the dose: " + entries[j].Members[0].Name + " has “" + tell(thing{entries[j].Lead, nil}).Value + "”"
		}
	}
}

// sources are those of the region that know the person, in the order in which they answer.
func (w *world) sources() []string {
	return slices.DeleteFunc(slices.Clone(w.person.Known), func(s string) bool { _, ok := gives[s]; return !ok })
}

// fakeRecords serves worlds. It is no mock of the gatherer: it only plays back what a gathering looks like from outside.
type fakeRecords struct {
	worlds  map[string]*world // by person id
	numbers map[string]string // NHS number -> person id
	objects map[string]bool   // person id: opens only in an emergency
	docs    map[string]*gather.Document
	// step, if set, is received from before each further source answers.
	step chan struct{}
}

func (f *fakeRecords) Who(_ context.Context, s *access.Session, person string) (gather.Person, error) {
	w, ok := f.worlds[person]
	if !ok {
		return gather.Person{}, fhir.Errorf(fhir.NotFound, "no such person")
	}
	return w.record().Person, nil
}

func (f *fakeRecords) Find(_ context.Context, s *access.Session, id fhir.Identifier) (string, error) {
	if p, ok := f.numbers[id.Value]; ok && id.System == fhir.SystemNHSNumber {
		if f.objects[p] && s.Glass(p, today) == nil {
			return "", fhir.Errorf(fhir.NotFound, "no record was found that you can open")
		}
		return p, nil
	}
	return "", fhir.Errorf(fhir.NotFound, "no record was found that you can open")
}

func (f *fakeRecords) FindInEmergency(_ context.Context, _ *access.Session, id fhir.Identifier, _ policy.Glass) (string, error) {
	if p, ok := f.numbers[id.Value]; ok && id.System == fhir.SystemNHSNumber {
		return p, nil
	}
	return "", fhir.Errorf(fhir.NotFound, "no record was found that you can open")
}

func (f *fakeRecords) Watch(ctx context.Context, s *access.Session, person string, _ gather.Ask) iter.Seq2[*gather.Record, error] {
	return func(yield func(*gather.Record, error) bool) {
		w, ok := f.worlds[person]
		glass := s.Glass(person, today) != nil
		switch {
		case !ok || f.objects[person] && !glass:
			yield(nil, fhir.Errorf(fhir.NotFound, "no record was found that you can open"))
			return
		}
		for i := range len(w.sources()) + 1 {
			if i > 0 && f.step != nil {
				select {
				case <-f.step:
				case <-ctx.Done():
					return
				}
			}
			rec := w.record(w.sources()[:i]...)
			rec.BrokeGlass = glass
			if !yield(rec, nil) {
				return
			}
		}
	}
}

func (f *fakeRecords) Document(_ context.Context, s *access.Session, person string, ref fhir.Ref) (*gather.Document, error) {
	if d, ok := f.docs[person+"/"+ref.ID()]; ok {
		return d, nil
	}
	return nil, fhir.Errorf(fhir.NotFound, "no record was found that you can open")
}

func newFake() *fakeRecords {
	dozen := cast.Dozen(today)
	f := &fakeRecords{worlds: map[string]*world{"person-1": margaretsWorld()}, numbers: map[string]string{}, objects: map[string]bool{"person-daniel": true}, docs: map[string]*gather.Document{}}
	f.numbers[dozen[0].NHS] = "person-1"
	f.worlds["person-1"].facts = append(f.worlds["person-1"].facts, repeats()...)
	for _, p := range dozen[1:] {
		f.worlds["person-"+p.Key] = newWorld(p)
		f.numbers[p.NHS] = "person-" + p.Key
	}
	return f
}

// users of the test region, one for each way of looking.
func testAccess(t testing.TB) *access.Manager {
	t.Helper()
	m, err := access.New(access.Options{Demo: true, Now: func() time.Time { return today }, Issuer: func() string { return "https://record.severn.example" }, Region: &region.Region{
		Identity: region.Identity{Clients: []region.Client{
			{ID: "diary", Name: "Kidney Diary", Kind: "public", Redirects: []string{"https://diary.example/back"}, Scopes: []string{"openid", "fhirUser", "launch/patient", "patient/*.rs", "offline_access"}},
			{ID: "rounds", Name: "Ward Rounds by Northern Clinical Software", Kind: "public", Redirects: []string{"https://rounds.clinical-software.example/signed-in/back"}, Launch: "https://rounds.clinical-software.example/launch",
				Scopes: []string{"openid", "profile", "launch", "launch/patient", "online_access", "user/*.cruds", "patient/*.cruds"}}}},
		Organisations: []region.Organisation{{ODS: "M85001", Name: "Hilltop Surgery"}, {ODS: "RX1", Name: "Severn Acute Trust"}},
		Users: []region.User{
			{ID: "dr-marsh", Name: "Dr Helen Marsh", Role: "gp", Organisation: "M85001"},
			{ID: "reception", Name: "Jo Bell", Role: "receptionist", Organisation: "M85001"},
			{ID: "margaret", Name: "Margaret Taylor", Role: "citizen", PersonRef: fhir.SystemNHSNumber + "|" + cast.Dozen(today)[0].NHS},
			{ID: "ops", Name: "Ali Reza", Role: "operator", Organisation: "RX1"},
			{ID: "leila", Name: "Leila Haddad", Role: "steward", Organisation: "QSV"},
			{ID: "ines", Name: "Ines Duarte", Role: "privacy-officer", Organisation: "RX1"},
		}}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}
