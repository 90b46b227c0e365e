package gpconnect

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// Appointment management: a practice's appointments to come and its free slots, which others may book, amend and cancel. What is written
// goes out in the practice's own STU3, changed only where the specification allows, so that nothing of it is lost on the way.

// An Appointment as a practice holds it.
type Appointment struct {
	ID, Version string
	Resource    *fhir.Resource // R4
	stu3        *fhir.Resource // as it came: an R4 type of the same name, and STU3 inside
}

func appointmentForm() *form {
	return &form{to: "Appointment", profile: "UKCore-Appointment", members: members(
		"status appointmentType priority description start end minutesDuration created comment", shape{
			"identifier": many("identifier"), "serviceCategory": many("serviceCategory"), "serviceType": many("serviceType"),
			"specialty": many("specialty"), "reason": many("reasonCode"), "indication": many("reasonReference"), "incomingReferral": many("basedOn"),
			"supportingInformation": many("supportingInformation"), "slot": many("slot"), "participant": many("participant"),
			"requestedPeriod": many("requestedPeriod"),
		}),
		exts: map[string]func(*converter, *object, fhir.Value){
			"GPConnect-AppointmentCancellationReason": func(c *converter, _ *object, e fhir.Value) {
				c.key("cancelationReason") // spelt so in R4
				c.raw(`{"text":`)
				c.copy(e.Member("valueString"))
				c.out = append(c.out, '}')
			},
		}}
}

func slotForm() *form {
	return &form{to: "Slot", profile: "UKCore-Slot", members: members("appointmentType schedule status start end overbooked comment", shape{
		"identifier": many("identifier"), "serviceCategory": many("serviceCategory"), "serviceType": many("serviceType"), "specialty": many("specialty")})}
}

func scheduleForm() *form {
	return &form{to: "Schedule", profile: "UKCore-Schedule", members: members("active planningHorizon comment", shape{
		"identifier": many("identifier"), "serviceCategory": many("serviceCategory"), "serviceType": many("serviceType"), "specialty": many("specialty"),
		"actor": many("actor")})}
}

// mayBook reports whether a purpose is one of arranging care.
func mayBook(purpose string) bool { return directCare(purpose) || purpose == "PATADMIN" }

func (c *Client) arrange(by connector.Requester) error {
	if !mayBook(by.Purpose) {
		return fhir.Errorf(fhir.Forbidden, "appointments at a practice may be arranged for direct care only")
	}
	return nil
}

// Appointments reads a person's appointments between two days, none of them past: a practice gives no others.
//
// GP Connect 1.2 appointments_use_case_retrieve_a_patients_appointments.html
func (c *Client) Appointments(ctx context.Context, by connector.Requester, nhs fhir.NHSNumber, first, last time.Time) ([]*Appointment, error) {
	out, _, _, err := c.appointments(ctx, by, nhs, first, last)
	return out, from(err, c.o.Source)
}

func (c *Client) appointments(ctx context.Context, by connector.Requester, nhs fhir.NHSNumber, first, last time.Time) ([]*Appointment, *fhir.Resource, int64, error) {
	from, to, today := day(first), day(last), day(c.o.Now())
	switch {
	case from < today:
		return nil, nil, 0, fhir.Errorf(fhir.Invalid, "a practice gives appointments from today on only").At("start")
	case to < from:
		return nil, nil, 0, fhir.Errorf(fhir.Invalid, "the search ends before it starts").At("start")
	}
	if err := c.arrange(by); err != nil {
		return nil, nil, 0, err
	}
	patient, n, err := c.findPatient(ctx, by, nhs, InteractionPatient)
	if err != nil {
		return nil, nil, 0, err
	}
	who, err := convertPatient(patient)
	if err != nil {
		return nil, nil, 0, err
	}
	id := patient.Text("id")
	bundle, size, err := c.ask(ctx, by, call{method: http.MethodGet, path: "/Patient/" + url.PathEscape(id) + "/Appointment", interaction: InteractionPatientAppointments,
		scope: "patient/*.read", query: url.Values{"start": {"ge" + from, "le" + to}}}, "Bundle")
	if err != nil {
		return nil, nil, 0, err
	}
	var out []*Appointment
	for r := range bundle.All("entry.resource") {
		if r.Text("resourceType") != "Appointment" {
			continue
		}
		if !participates(r, id) {
			return nil, nil, 0, fhir.Errorf(fhir.BusinessRule, "the practice sent an appointment of a different person; its answer was dropped: tell the practice's supplier")
		}
		a, err := readAppointment(r)
		if err != nil {
			return nil, nil, 0, err
		}
		out = append(out, a)
	}
	return out, who, n + size, nil
}

func day(t time.Time) string { return t.In(fhir.London).Format(time.DateOnly) }

func participates(appointment fhir.Value, patient string) bool {
	for ref := range appointment.All("participant.actor.reference") {
		if id, ok := strings.CutPrefix(ref.Str(), "Patient/"); ok {
			return id == patient
		}
	}
	return false
}

func readAppointment(v fhir.Value) (*Appointment, error) {
	b, err := fhir.ParseValue(fhir.JSON(fhir.M{"resourceType": "Bundle", "entry": []fhir.M{{"resource": rawValue(v)}}}))
	if err != nil {
		return nil, err
	}
	done, err := convertAny(b)
	if err != nil {
		return nil, err
	}
	stu3, err := fhir.FromValue(b.Get("entry.resource"))
	if err != nil {
		return nil, err
	}
	if len(done.Content) != 1 || stu3.ID() == "" {
		return nil, fhir.Errorf(fhir.Required, "the practice's appointment has no id").At("Appointment.id")
	}
	return &Appointment{ID: stu3.ID(), Version: stu3.Text("meta.versionId"), Resource: done.Content[0], stu3: stu3}, nil
}

func (c *Client) one(ctx context.Context, by connector.Requester, k call) (*Appointment, error) {
	if err := c.arrange(by); err != nil {
		return nil, from(err, c.o.Source)
	}
	v, _, err := c.ask(ctx, by, k, "Appointment")
	if err == nil {
		var a *Appointment
		if a, err = readAppointment(v); err == nil {
			return a, nil
		}
	}
	return nil, from(err, c.o.Source)
}

// Appointment reads one appointment to come.
//
// GP Connect 1.2 appointments_use_case_read_an_appointment.html
func (c *Client) Appointment(ctx context.Context, by connector.Requester, id string) (*Appointment, error) {
	return c.one(ctx, by, call{method: http.MethodGet, path: "/Appointment/" + url.PathEscape(id), interaction: InteractionAppointmentRead, scope: "patient/*.read"})
}

// A SlotSearch says which free slots are looked for.
type SlotSearch struct {
	From, To time.Time // no more than two weeks apart
	OrgType  string    // of the organisation that would book: gp-practice, urgent-care …; may be ""
}

// A Slot is time that can be booked, with what a person has to know to choose it.
type Slot struct {
	ID, Start, End string
	Kind, Session  string // the practice's names for the slot and for the session that it is in
	Channel        string // In-person, Telephone, Video
	Schedule       string
	Location       string // id
	Place, Address string
	Practitioner   string // id; "" if the practice does not say
	With, Role     string
	Gender         string
	Resource       *fhir.Resource // R4
}

const twoWeeks = 14 * 24 * time.Hour

// FreeSlots searches a practice for slots that by's organisation may book, soonest first.
//
// GP Connect 1.2 appointments_use_case_search_for_free_slots.html
func (c *Client) FreeSlots(ctx context.Context, by connector.Requester, s SlotSearch) ([]Slot, error) {
	if err := c.arrange(by); err != nil {
		return nil, from(err, c.o.Source)
	}
	if s.To.Before(s.From) || s.To.Sub(s.From) > twoWeeks {
		return nil, fhir.Errorf(fhir.Invalid, "free slots are searched for two weeks at a time at the most").At("start").From(c.o.Source)
	}
	q := url.Values{
		"status": {"free"}, "start": {"ge" + local(s.From)}, "end": {"le" + local(s.To)}, "_include": {"Slot:schedule"},
		"_include:recurse": {"Schedule:actor:Practitioner", "Schedule:actor:Location", "Location:managingOrganization"},
		"searchFilter":     {fhir.SystemODS + "|" + by.OrganisationODS},
	}
	if s.OrgType != "" {
		q.Add("searchFilter", systemOrgType+"|"+s.OrgType)
	}
	v, _, err := c.ask(ctx, by, call{method: http.MethodGet, path: "/Slot", interaction: InteractionSlots, scope: "organization/*.read", query: q}, "Bundle")
	if err != nil {
		return nil, from(err, c.o.Source)
	}
	done, err := convertAny(v)
	if err != nil {
		return nil, from(err, c.o.Source)
	}
	return slotsOf(done.Content), nil
}

const systemOrgType = "https://fhir.nhs.uk/STU3/CodeSystem/GPConnect-OrganisationType-1"

// local is a time in Britain with the offset that it has there. appointments_use_case_search_for_free_slots.html#search-parameters
func local(t time.Time) string { return t.In(fhir.London).Format("2006-01-02T15:04:05-07:00") }

func slotsOf(content []*fhir.Resource) []Slot {
	byRef := map[string]*fhir.Resource{}
	for _, r := range content {
		byRef[string(r.Ref())] = r
	}
	var out []Slot
	for _, r := range content {
		if r.Type() != "Slot" || r.Text("status") != "free" {
			continue
		}
		s := Slot{ID: r.ID(), Start: r.Text("start"), End: r.Text("end"), Kind: r.Concept("serviceType").Words(), Channel: extensionOf(r, "DeliveryChannel").Text("valueCodeableConcept.coding.code"),
			Schedule: strings.TrimPrefix(r.Text("schedule.reference"), "Schedule/"), Resource: r}
		if sch := byRef["Schedule/"+s.Schedule]; sch != nil {
			s.Session = sch.Concept("serviceCategory").Words()
			var role fhir.CodeableConcept
			_ = extensionOf(sch, "GPConnect-PractitionerRole-1").Member("valueCodeableConcept").Decode(&role)
			s.Role = role.Words()
			for ref := range sch.Value().All("actor.reference") {
				s.actor(byRef[ref.Str()], ref.Str())
			}
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Slot) int {
		return cmp.Or(instantOf(a.Start).Compare(instantOf(b.Start)), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func instantOf(s string) time.Time {
	span, err := fhir.ParseDate(s)
	if err != nil {
		return time.Time{}
	}
	return span.Start
}

func (s *Slot) actor(r *fhir.Resource, ref string) {
	typ, id, _ := strings.Cut(ref, "/")
	switch typ {
	case "Location":
		s.Location = id
		if r != nil {
			s.Place = r.Text("name")
			var a fhir.Address
			_ = r.Get("address").Decode(&a)
			s.Address = strings.Join(slices.DeleteFunc(append(slices.Clone(a.Line), a.City, a.PostalCode), func(p string) bool { return p == "" }), ", ")
		}
	case "Practitioner":
		s.Practitioner = id
		if r != nil {
			var n fhir.HumanName
			_ = r.Get("name").Decode(&n)
			s.With, s.Gender = n.Formal(), r.Text("gender")
		}
	}
}

func extensionOf(r *fhir.Resource, name string) fhir.Value {
	for e := range r.Value().All("extension") {
		if strings.HasSuffix(e.Text("url"), "-"+name) {
			return e
		}
	}
	return fhir.Value{}
}

// A Booking is one appointment to be made.
type Booking struct {
	Person      fhir.NHSNumber
	Slots       []Slot // one, or several that follow each other
	Description string // 100 characters at the most, and nothing clinical that should be a transfer of care
	Comment     string // 500
	Phone       string // of the organisation that books
	OrgType     string // as in the search
}

// check refuses what the practice would have to. appointments_use_case_book_an_appointment.html#booking-multiple-adjacent-slots
func (b Booking) check(now time.Time) error {
	bad := func(at, why string) error { return fhir.Errorf(fhir.Invalid, "%s", why).At(at) }
	switch {
	case b.Person.IsZero():
		return fhir.Errorf(fhir.Required, "say by NHS number for whom the appointment is").At("participant")
	case len(b.Slots) == 0:
		return fhir.Errorf(fhir.Required, "choose a slot").At("slot")
	case strings.TrimSpace(b.Description) == "":
		return fhir.Errorf(fhir.Required, "say in a few words what the appointment is for").At("description")
	case b.Phone == "":
		return fhir.Errorf(fhir.Required, "give a telephone number by which the practice reaches your organisation").At("telecom")
	case !instantOf(b.Slots[0].Start).After(now):
		return bad("start", "only appointments to come can be booked")
	case b.Slots[0].Location == "":
		return bad("participant", "the practice does not say where the slot is, so it cannot be booked")
	}
	for i := 1; i < len(b.Slots); i++ {
		x, y := b.Slots[i-1], b.Slots[i]
		if x.Schedule != y.Schedule || x.Channel != y.Channel || x.Kind != y.Kind || !instantOf(x.End).Equal(instantOf(y.Start)) {
			return bad("slot", "slots are booked together only if they follow each other in one session and are of one kind")
		}
	}
	return checkWords(b.Description, b.Comment)
}

func checkWords(description, comment string) error {
	for _, f := range []struct {
		name, words string
		most        int
	}{{"description", description, 100}, {"comment", comment, 500}} {
		if utf8.RuneCountInString(f.words) > f.most {
			return fhir.Errorf(fhir.TooLong, "may have %d characters at the most", f.most).At(f.name)
		}
	}
	return nil
}

// Book makes an appointment, once: the same booking again, after an answer that was lost on its way, gives the appointment that was made. An
// issue of type Conflict: a slot was taken meanwhile; search again. After one of type Timeout or Transient nobody knows whether the
// appointment was made until Book is called again.
//
// GP Connect 1.2 appointments_use_case_book_an_appointment.html
func (c *Client) Book(ctx context.Context, by connector.Requester, b Booking) (*Appointment, error) {
	now := c.o.Now()
	err := b.check(now)
	if err == nil {
		err = c.arrange(by)
	}
	if err != nil {
		return nil, from(err, c.o.Source)
	}
	patient, _, err := c.findPatient(ctx, by, b.Person, InteractionPatient)
	if err != nil {
		return nil, from(err, c.o.Source)
	}
	a, err := c.one(ctx, by, call{method: http.MethodPost, path: "/Appointment", interaction: InteractionAppointmentCreate, scope: "patient/*.write",
		body: b.body(by, patient.Text("id"), now)})
	if fhir.Is(err, fhir.Duplicate) || fhir.Is(err, fhir.Conflict) {
		if a := c.booked(ctx, by, b); a != nil {
			return a, nil
		}
		return nil, fhir.Errorf(fhir.Conflict, "the slot was taken in the meantime: search again").From(c.o.Source)
	}
	if fhir.Is(err, fhir.Timeout) || fhir.Is(err, fhir.Transient) {
		err = fhir.Errorf(fhir.IssueOf(err).Type, "%s; whether the appointment was made is not known: book it again, which makes it once only", fhir.IssueOf(err).Text).From(c.o.Source)
	}
	return a, err
}

// booked finds the appointment that a booking has made already: for the same person, of the same slots, in the same words, by the same
// organisation; nil if there is none.
func (c *Client) booked(ctx context.Context, by connector.Requester, b Booking) *Appointment {
	start := instantOf(b.Slots[0].Start)
	list, _, _, err := c.appointments(ctx, by, b.Person, start, start)
	if err != nil {
		return nil
	}
	for _, a := range list {
		var slots []string
		for ref := range a.stu3.Value().All("slot.reference") {
			slots = append(slots, strings.TrimPrefix(ref.Str(), "Slot/"))
		}
		same := slices.EqualFunc(slots, b.Slots, func(id string, s Slot) bool { return id == s.ID })
		if same && a.Resource.Text("status") == "booked" && a.stu3.Text("description") == b.Description && a.stu3.Text("comment") == b.Comment &&
			a.stu3.Text("contained.identifier.value") == by.OrganisationODS {
			return a
		}
	}
	return nil
}

func (b Booking) body(by connector.Requester, patient string, now time.Time) []byte {
	org := fhir.M{"resourceType": "Organization", "id": "1", "meta": fhir.M{"profile": []string{"https://fhir.nhs.uk/STU3/StructureDefinition/CareConnect-GPC-Organization-1"}},
		"identifier": []fhir.M{{"system": fhir.SystemODS, "value": by.OrganisationODS}}, "name": orWord(by.OrgName, by.OrganisationODS),
		"telecom": []fhir.M{{"system": "phone", "value": b.Phone}}}
	if b.OrgType != "" {
		org["type"] = []fhir.M{{"coding": []fhir.M{{"system": systemOrgType, "code": b.OrgType}}}}
	}
	var slots []fhir.M
	for _, s := range b.Slots {
		slots = append(slots, fhir.M{"reference": "Slot/" + s.ID})
	}
	first, last := b.Slots[0], b.Slots[len(b.Slots)-1]
	who := []fhir.M{{"actor": fhir.M{"reference": "Patient/" + patient}, "status": "accepted"}, {"actor": fhir.M{"reference": "Location/" + first.Location}, "status": "accepted"}}
	if first.Practitioner != "" {
		who = append(who, fhir.M{"actor": fhir.M{"reference": "Practitioner/" + first.Practitioner}, "status": "accepted"})
	}
	m := fhir.M{"resourceType": "Appointment", "meta": fhir.M{"profile": []string{"https://fhir.nhs.uk/STU3/StructureDefinition/GPConnect-Appointment-1"}},
		"contained": []fhir.M{org}, "extension": []fhir.M{{"url": gpConnectExt + "BookingOrganisation-1", "valueReference": fhir.M{"reference": "#1"}}},
		"status": "booked", "description": b.Description, "start": first.Start, "end": last.End, "slot": slots, "created": local(now), "participant": who}
	if b.Comment != "" {
		m["comment"] = b.Comment
	}
	return fhir.JSON(m)
}

const gpConnectExt = "https://fhir.nhs.uk/STU3/StructureDefinition/Extension-GPConnect-"

// Amend changes the words of an appointment as it was read; nothing else of it can be amended. Empty words are left as they were. An
// issue of type Conflict: somebody else changed it; read it again.
//
// GP Connect 1.2 appointments_use_case_amend_an_appointment.html
func (c *Client) Amend(ctx context.Context, by connector.Requester, a *Appointment, description, comment string) (*Appointment, error) {
	err := a.open(c.o.Now())
	if err == nil {
		err = checkWords(description, comment)
	}
	if err != nil {
		return nil, from(err, c.o.Source)
	}
	body := a.stu3
	if description != "" {
		body = body.With("description", description)
	}
	if comment != "" {
		body = body.With("comment", comment)
	}
	return c.put(ctx, by, a, body, InteractionAppointmentUpdate)
}

// Cancel cancels an appointment as it was read, with the reason.
//
// GP Connect 1.2 appointments_use_case_cancel_an_appointment.html
func (c *Client) Cancel(ctx context.Context, by connector.Requester, a *Appointment, reason string) (*Appointment, error) {
	err := a.open(c.o.Now())
	if err == nil && strings.TrimSpace(reason) == "" {
		err = fhir.Errorf(fhir.Required, "say why the appointment is cancelled").At("reason")
	}
	if err != nil {
		return nil, from(err, c.o.Source)
	}
	var ext []any
	for e := range a.stu3.Value().All("extension") {
		ext = append(ext, rawValue(e))
	}
	ext = append(ext, fhir.M{"url": gpConnectExt + "AppointmentCancellationReason-1", "valueString": reason})
	return c.put(ctx, by, a, a.stu3.With("status", "cancelled").With("extension", ext), InteractionAppointmentCancel)
}

func (a *Appointment) open(now time.Time) error {
	switch {
	case a.Version == "":
		return fhir.Errorf(fhir.Required, "the practice gave no version of the appointment, so a change could undo somebody else's unseen").At("meta.versionId")
	case a.Resource.Text("status") == "cancelled":
		return fhir.Errorf(fhir.BusinessRule, "the appointment has been cancelled").At("status")
	case !instantOf(a.Resource.Text("start")).After(now):
		return fhir.Errorf(fhir.BusinessRule, "only appointments to come can be changed").At("start")
	}
	return nil
}

func (c *Client) put(ctx context.Context, by connector.Requester, a *Appointment, body *fhir.Resource, interaction string) (*Appointment, error) {
	out, err := c.one(ctx, by, call{method: http.MethodPut, path: "/Appointment/" + url.PathEscape(a.ID), interaction: interaction, scope: "patient/*.write",
		body: body.Raw(), ifMatch: "W/" + strconv.Quote(a.Version)})
	if is := fhir.IssueOf(err); is != nil && (is.Type == fhir.Conflict || strings.Contains(is.Text, "FHIR_CONSTRAINT_VIOLATION")) {
		return nil, fhir.Errorf(fhir.Conflict, "somebody else changed the appointment in the meantime: read it again").From(c.o.Source)
	}
	return out, err
}

// ahead is how far ahead a record shows a person's appointments.
const ahead = 365 * 24 * time.Hour

func (c *Client) appointmentsPart(ctx context.Context, by connector.Requester, nhs fhir.NHSNumber) *part {
	now := c.o.Now()
	list, who, size, err := c.appointments(ctx, by, nhs, now, now.Add(ahead))
	if err != nil {
		return &part{err: err}
	}
	// Those that are past exist too and are not given, so that none to come is not "none".
	p := &part{patient: who, bytes: size, issues: []*fhir.Issue{(&fhir.Issue{Type: fhir.Incomplete, Severity: fhir.Information,
		Text: "the practice gives appointments from today on only"}).At(string(dataset.Appointments))}}
	for _, a := range list {
		p.content, p.state = append(p.content, a.Resource), dataset.Present
	}
	return p
}
