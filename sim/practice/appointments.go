package practice

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"tombolo/api/gpconnect"
	"tombolo/fhir"
	"tombolo/sim/cast"
)

const (
	interactionSlots       = "urn:nhs:names:services:gpconnect:fhir:rest:search:slot-1"
	interactionOfPatient   = "urn:nhs:names:services:gpconnect:fhir:rest:search:patient_appointments-1"
	interactionRead        = "urn:nhs:names:services:gpconnect:fhir:rest:read:appointment-1"
	interactionCreate      = "urn:nhs:names:services:gpconnect:fhir:rest:create:appointment-1"
	interactionUpdate      = "urn:nhs:names:services:gpconnect:fhir:rest:update:appointment-1"
	interactionCancel      = "urn:nhs:names:services:gpconnect:fhir:rest:cancel:appointment-1"
	cancellation           = "https://fhir.nhs.uk/STU3/StructureDefinition/Extension-GPConnect-AppointmentCancellationReason-1"
	channel                = "https://fhir.nhs.uk/STU3/StructureDefinition/Extension-GPConnect-DeliveryChannel-2"
	slotLength             = 10 * time.Minute
	slotsADay, daysOfSlots = 6, 14
)

// A diary is what a practice has booked.
type diary struct {
	mu     sync.Mutex
	booked map[string]fhir.M // by id
	taken  map[string]string // slot -> appointment
	last   int
}

func inBritain(t time.Time) string { return t.In(fhir.London).Format(gpconnect.Instant) }

// A slot is ten minutes of a morning session of the practice's doctor; its id says when it is.
type slot struct{ start time.Time }

func (s slot) id() string { return strconv.FormatInt(s.start.Unix(), 10) }

// open are the slots of the next two weeks: weekday mornings from nine.
func (p *Practice) open() []slot {
	var out []slot
	now := p.o.Now().In(fhir.London)
	for d := 1; d <= daysOfSlots; d++ {
		t := time.Date(now.Year(), now.Month(), now.Day()+d, 9, 0, 0, 0, fhir.London)
		if t.Weekday() == time.Saturday || t.Weekday() == time.Sunday {
			continue
		}
		for k := range slotsADay {
			out = append(out, slot{t.Add(time.Duration(k) * slotLength)})
		}
	}
	return out
}

// slots answers a search for free slots. GP Connect 1.2 appointments_use_case_search_for_free_slots.html
func (p *Practice) slots(w http.ResponseWriter, r *http.Request, _ gpconnect.Caller) error {
	q := r.URL.Query()
	from, okFrom := boundary(q["start"], "ge")
	to, okTo := boundary(q["end"], "le")
	switch {
	case q.Get("status") != "free":
		return gpconnect.InvalidParameter("status must be free")
	case !slices.Contains(q["_include"], "Slot:schedule"):
		return gpconnect.InvalidParameter("_include=Slot:schedule is missing")
	case !okFrom || !okTo || to.Sub(from) > 14*24*time.Hour || to.Before(from):
		return gpconnect.InvalidParameter("start and end must be one time each, with ge and le, no more than two weeks apart")
	}
	b := p.builder(cast.Person{})
	p.diary.mu.Lock()
	for _, s := range p.open() {
		if s.start.Before(from) || s.start.Add(slotLength).After(to) || p.diary.taken[s.id()] != "" {
			continue
		}
		b.add(fhir.M{"resourceType": "Slot", "id": s.id(), "meta": gpconnect.Profile("GPConnect-Slot-1"), "status": "free",
			"extension": []fhir.M{{"url": channel, "valueCode": "In-person"}}, "serviceType": []fhir.M{{"text": "General GP appointment"}},
			"schedule": ref("Schedule", b.uuid("schedule", s.start.Format(time.DateOnly))), "start": inBritain(s.start), "end": inBritain(s.start.Add(slotLength))})
		b.session(s.start)
	}
	p.diary.mu.Unlock()
	gpconnect.WriteFHIR(w, r, http.StatusOK, fhir.M{"resourceType": "Bundle", "type": "searchset", "entry": b.entries})
	return nil
}

func boundary(values []string, prefix string) (time.Time, bool) {
	if len(values) != 1 || !strings.HasPrefix(values[0], prefix) {
		return time.Time{}, false
	}
	s, err := fhir.ParseDate(values[0][2:])
	if err != nil {
		return time.Time{}, false
	}
	if prefix == "le" && len(values[0]) == len("le2006-01-02") {
		return s.Start.AddDate(0, 0, 1), true
	}
	return s.Start, true
}

// session is the Schedule of a morning, with who and where.
func (b *builder) session(t time.Time) {
	id := b.uuid("schedule", t.Format(time.DateOnly))
	if b.made[id] {
		return
	}
	b.made[id] = true
	doctor := b.by("Dr Yasmin Noor", "General Medical Practitioner")
	b.add(fhir.M{"resourceType": "Schedule", "id": id, "meta": gpconnect.Profile("GPConnect-Schedule-1"), "serviceCategory": fhir.M{"text": "Morning surgery"},
		"extension": []fhir.M{{"url": "https://fhir.nhs.uk/STU3/StructureDefinition/Extension-GPConnect-PractitionerRole-1", "valueCodeableConcept": fhir.M{"coding": []fhir.M{{
			"system": "https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-SDSJobRoleName-1", "code": "R0260", "display": "General Medical Practitioner"}}}}},
		"actor": []fhir.M{b.place(), doctor}, "planningHorizon": fhir.M{"start": inBritain(t), "end": inBritain(t.Add(3 * time.Hour))}})
}

func (b *builder) place() fhir.M {
	id := b.uuid("place")
	if !b.made[id] {
		b.made[id] = true
		b.add(fhir.M{"resourceType": "Location", "id": id, "meta": gpconnect.Profile("CareConnect-GPC-Location-1"), "name": b.p.o.Name,
			"address": fhir.M{"line": []string{"1 Surgery Lane"}, "city": "Severnmouth", "postalCode": "GL99 1AA"}, "managingOrganization": b.organisation(b.p.o.Name, b.p.o.ODS)})
	}
	return ref("Location", id)
}

// seed puts the cast's own appointments into the diary, once.
func (p *Practice) seed() {
	if p.diary.booked != nil {
		return
	}
	p.diary.booked, p.diary.taken = map[string]fhir.M{}, map[string]string{}
	for _, c := range p.o.People {
		if !p.serves(c) {
			continue
		}
		b := p.builder(c)
		for _, a := range c.AppointmentsAt(p.o.Source) {
			id := b.mine("appointment", a.ID)
			p.diary.booked[id] = fhir.M{"resourceType": "Appointment", "id": id, "meta": fhir.M{"versionId": "1", "profile": gpconnect.Profile("GPConnect-Appointment-1")["profile"]},
				"status": a.Status, "description": a.Reason, "start": a.Start, "end": a.End, "serviceType": []fhir.M{{"text": a.Type}}, "created": inBritain(p.o.Now()),
				"participant": []fhir.M{{"actor": ref("Patient", b.mine("patient")), "status": "accepted"}}}
		}
	}
}

func (p *Practice) patientAppointments(w http.ResponseWriter, r *http.Request, _ gpconnect.Caller) error {
	starts, today := r.URL.Query()["start"], p.o.Now().In(fhir.London).Format(time.DateOnly)
	var from, to string
	for _, s := range starts {
		if v, ok := strings.CutPrefix(s, "ge"); ok {
			from = v
		} else if v, ok := strings.CutPrefix(s, "le"); ok {
			to = v
		}
	}
	if len(starts) != 2 || len(from) != 10 || len(to) != 10 || from < today || to < from {
		return gpconnect.InvalidParameter("start must be given twice, ge and le, as days that are not past")
	}
	person, err := p.byID(r.PathValue("id"))
	if err != nil {
		return err
	}
	me := "Patient/" + p.builder(person).mine("patient")
	b := p.builder(person)
	p.diary.mu.Lock()
	defer p.diary.mu.Unlock()
	p.seed()
	for _, a := range p.diary.booked {
		start := instantOf(a["start"].(string)).In(fhir.London).Format(time.DateOnly)
		if patientOf(a) == me && start >= from && start <= to {
			b.add(a)
		}
	}
	gpconnect.WriteFHIR(w, r, http.StatusOK, fhir.M{"resourceType": "Bundle", "type": "searchset", "entry": b.entries})
	return nil
}

func instantOf(s string) time.Time {
	span, err := fhir.ParseDate(s)
	if err != nil {
		return time.Time{}
	}
	return span.Start
}

func patientOf(a fhir.M) string {
	v, err := fhir.ParseValue(fhir.JSON(a))
	if err != nil {
		return ""
	}
	for ref := range v.All("participant.actor.reference") {
		if strings.HasPrefix(ref.Str(), "Patient/") {
			return ref.Str()
		}
	}
	return ""
}

// read reads an Appointment that was sent.
func (p *Practice) read(w http.ResponseWriter, r *http.Request) (*fhir.Resource, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		return nil, gpconnect.BadRequest("the body could not be read")
	}
	a, err := fhir.Parse(body)
	if err != nil || a.Type() != "Appointment" {
		return nil, gpconnect.InvalidResource("the body must be an Appointment")
	}
	switch {
	case a.Get("reason").Exists() || a.Get("specialty").Exists():
		return nil, gpconnect.InvalidResource("reason and specialty may not be given")
	case utf8.RuneCountInString(a.Text("description")) > 100 || utf8.RuneCountInString(a.Text("comment")) > 500:
		return nil, gpconnect.InvalidResource("description or comment is too long")
	}
	return a, nil
}

// book makes an appointment. GP Connect 1.2 appointments_use_case_book_an_appointment.html
func (p *Practice) book(w http.ResponseWriter, r *http.Request, _ gpconnect.Caller) error {
	a, err := p.read(w, r)
	if err != nil {
		return err
	}
	start, end := instantOf(a.Text("start")), instantOf(a.Text("end"))
	org := a.Get("contained")
	switch {
	case a.Text("status") != "booked", a.Text("created") == "", a.Text("description") == "":
		return gpconnect.InvalidResource("status booked, created and description are needed")
	case org.Text("identifier.system") != fhir.SystemODS || org.Text("name") == "" || org.Text("telecom.value") == "":
		return gpconnect.InvalidResource("the booking organisation needs ODS code, name and telecom")
	case !start.After(p.o.Now()):
		return gpconnect.InvalidResource("the appointment is in the past")
	}
	var patient, location string
	for ref := range a.Value().All("participant.actor.reference") {
		switch typ, id, _ := strings.Cut(ref.Str(), "/"); typ {
		case "Patient":
			patient = id
		case "Location":
			location = id
		}
	}
	if _, err := p.byID(patient); err != nil || location != p.builder(cast.Person{}).uuid("place") {
		return gpconnect.InvalidResource("a patient of the practice and the place of the session must take part")
	}
	p.diary.mu.Lock()
	defer p.diary.mu.Unlock()
	p.seed()
	at := start
	var ids []string
	for ref := range a.Value().All("slot.reference") {
		id := strings.TrimPrefix(ref.Str(), "Slot/")
		switch {
		case !slices.ContainsFunc(p.open(), func(s slot) bool { return s.id() == id }):
			return &gpconnect.Refusal{Status: http.StatusUnprocessableEntity, Code: "REFERENCE_NOT_FOUND", Diagnostics: "no such slot"}
		case p.diary.taken[id] != "":
			return &gpconnect.Refusal{Status: http.StatusConflict, Code: "DUPLICATE_REJECTED", Diagnostics: "the slot is no longer free"}
		case id != slot{at}.id():
			return gpconnect.InvalidResource("the slots do not follow each other from start")
		}
		ids, at = append(ids, id), at.Add(slotLength)
	}
	if len(ids) == 0 || !at.Equal(end) {
		return gpconnect.InvalidResource("start and end are not those of the slots")
	}
	p.diary.last++
	id := fmt.Sprintf("booked-%d", p.diary.last)
	for _, s := range ids {
		p.diary.taken[s] = id
	}
	stored := fieldsOf(a)
	stored["id"], stored["serviceType"], stored["serviceCategory"] = id, []fhir.M{{"text": "General GP appointment"}}, fhir.M{"text": "Morning surgery"}
	p.keep(w, r, http.StatusCreated, stored, 1)
	return nil
}

func fieldsOf(a *fhir.Resource) fhir.M {
	m := fhir.M{}
	_ = a.Value().Decode(&m)
	return m
}

// keep stores a version and answers with it.
func (p *Practice) keep(w http.ResponseWriter, r *http.Request, status int, a fhir.M, version int) {
	a["meta"] = fhir.M{"versionId": strconv.Itoa(version), "profile": gpconnect.Profile("GPConnect-Appointment-1")["profile"]}
	p.diary.booked[a["id"].(string)] = a
	w.Header().Set("ETag", fmt.Sprintf(`W/"%d"`, version))
	gpconnect.WriteFHIR(w, r, status, a)
}

// yetToCome is an appointment that may still be read and changed. The diary is locked.
func (p *Practice) yetToCome(id string) (fhir.M, error) {
	p.seed()
	a, ok := p.diary.booked[id]
	switch {
	case !ok:
		return nil, &gpconnect.Refusal{Status: http.StatusNotFound, Code: "NO_RECORD_FOUND", Diagnostics: "no such appointment"}
	case !instantOf(a["start"].(string)).After(p.o.Now()):
		return nil, gpconnect.InvalidResource("the appointment is in the past")
	}
	return a, nil
}

// appointment reads one. GP Connect 1.2 appointments_use_case_read_an_appointment.html
func (p *Practice) appointment(w http.ResponseWriter, r *http.Request, _ gpconnect.Caller) error {
	p.diary.mu.Lock()
	defer p.diary.mu.Unlock()
	a, err := p.yetToCome(r.PathValue("id"))
	if err != nil {
		return err
	}
	gpconnect.WriteFHIR(w, r, http.StatusOK, a)
	return nil
}

// amend changes the words of one. GP Connect 1.2 appointments_use_case_amend_an_appointment.html
func (p *Practice) amend(w http.ResponseWriter, r *http.Request, _ gpconnect.Caller) error {
	p.diary.mu.Lock()
	defer p.diary.mu.Unlock()
	was, sent, err := p.change(w, r, "description", "comment")
	if err != nil {
		return err
	}
	p.keep(w, r, http.StatusOK, fieldsOf(sent), versionOf(was)+1)
	return nil
}

// cancel gives the slots of one back. GP Connect 1.2 appointments_use_case_cancel_an_appointment.html
func (p *Practice) cancel(w http.ResponseWriter, r *http.Request, _ gpconnect.Caller) error {
	p.diary.mu.Lock()
	defer p.diary.mu.Unlock()
	was, sent, err := p.change(w, r, "status", "extension")
	if err != nil {
		return err
	}
	reason := false
	for e := range sent.Value().All("extension") {
		reason = reason || e.Text("url") == cancellation && e.Text("valueString") != ""
	}
	if sent.Text("status") != "cancelled" || !reason {
		return gpconnect.InvalidResource("a cancellation needs the status cancelled and a reason")
	}
	for s, by := range p.diary.taken {
		if by == was.ID() {
			delete(p.diary.taken, s)
		}
	}
	p.keep(w, r, http.StatusOK, fieldsOf(sent), versionOf(was)+1)
	return nil
}

func versionOf(a *fhir.Resource) int {
	n, _ := strconv.Atoi(a.Text("meta.versionId"))
	return n
}

// change reads a new version of an appointment, in which nothing but what may has been changed. The diary is locked.
func (p *Practice) change(w http.ResponseWriter, r *http.Request, may ...string) (was, sent *fhir.Resource, err error) {
	old, err := p.yetToCome(r.PathValue("id"))
	if err != nil {
		return nil, nil, err
	}
	if sent, err = p.read(w, r); err != nil {
		return nil, nil, err
	}
	if was, err = fhir.Parse(fhir.JSON(old)); err != nil {
		return nil, nil, err
	}
	switch {
	case r.Header.Get("If-Match") != fmt.Sprintf(`W/"%d"`, versionOf(was)):
		return nil, nil, &gpconnect.Refusal{Status: http.StatusConflict, Code: "FHIR_CONSTRAINT_VIOLATION", Diagnostics: "the appointment has been changed since it was read"}
	case was.Text("status") == "cancelled":
		return nil, nil, gpconnect.InvalidResource("the appointment has been cancelled")
	}
	for _, pair := range [][2]*fhir.Resource{{was, sent}, {sent, was}} {
		for m := range pair[0].Value().Children() {
			if !slices.Contains(may, m.Key()) && string(fhir.JSON(anyOf(m))) != string(fhir.JSON(anyOf(pair[1].Value().Member(m.Key())))) {
				return nil, nil, gpconnect.InvalidResource(m.Key() + " may not be changed")
			}
		}
	}
	return was, sent, nil
}

// anyOf is a value in a form that compares whatever the order of members.
func anyOf(v fhir.Value) any {
	var out any
	_ = v.Decode(&out)
	return out
}
