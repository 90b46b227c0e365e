package practice

import (
	"slices"

	"tombolo/api/gpconnect"
	"tombolo/fhir"
	"tombolo/sim/cast"
)

// A topic is what a consultation was about, with the categories that its entries stand under, in order.
type topic struct {
	consultation, id, title string
	encounter               fhir.M
	date                    string
	categories              []*category
}

type category struct {
	title string
	refs  []string
}

// consultations makes an Encounter of each, and the lists of topic and category that its entries hang on.
//
// GP Connect 1.6 accessrecord_structured_development_consultation_guidance.html
func (b *builder) consultations() {
	if !b.ask.Asked["includeConsultations"] {
		return
	}
	for _, c := range b.person.EncountersAt(b.p.o.Source) {
		if !b.wantsConsultation(c.Start) {
			continue
		}
		encounter, who := b.encounter(c)
		t := &topic{consultation: b.mine("consultation", c.ID), id: b.mine("topic", c.ID), title: c.Reason, encounter: encounter, date: c.Start}
		b.topics[c.Start[:10]] = t
		if c.Note != "" {
			b.note(t, c, who)
		}
	}
}

// wantsConsultation reports whether a consultation lies in the period, or is among the most recent ones, that were asked for.
func (b *builder) wantsConsultation(start string) bool {
	if b.ask.MostRecent == 0 {
		return b.ask.Within("includeConsultations", day(start))
	}
	later := 0
	for _, c := range b.person.EncountersAt(b.p.o.Source) {
		if c.Start > start {
			later++
		}
	}
	for _, c := range b.surgery.Consultations {
		if c.Start > start {
			later++
		}
	}
	return later < b.ask.MostRecent
}

func (b *builder) encounter(c cast.Encounter) (encounter, who fhir.M) {
	id := b.mine("encounter", c.ID)
	e := b.base("Encounter", "CareConnect-GPC-Encounter-1", id, "")
	e["status"], e["subject"] = "finished", b.subject()
	e["type"] = []fhir.M{{"text": c.Type}}
	period := fhir.M{"start": c.Start}
	if c.End != "" {
		period["end"] = c.End
	} else {
		e["status"] = "in-progress"
	}
	e["period"] = period
	e["serviceProvider"] = b.organisation(b.p.o.Name, b.p.o.ODS)
	who = b.by(c.By, c.Role)
	e["participant"] = []fhir.M{
		{"type": []fhir.M{{"coding": []fhir.M{{"system": "https://fhir.nhs.uk/STU3/CodeSystem/GPConnect-ParticipantType-1", "code": "PPRF", "display": "primary performer"}}}}, "individual": who},
		{"type": []fhir.M{{"coding": []fhir.M{{"system": "https://fhir.nhs.uk/STU3/CodeSystem/GPConnect-ParticipantType-1", "code": "REC", "display": "recorder"}}}}, "individual": who},
	}
	if c.Reason != "" {
		e["reason"] = []fhir.M{{"text": c.Reason}}
	}
	b.file("includeConsultations", "", e)
	return ref("Encounter", id), who
}

// detailed writes the consultations that have several topics, each with its parts: lists within lists, in the order of writing.
func (b *builder) detailed() {
	if !b.ask.Asked["includeConsultations"] {
		return
	}
	for _, c := range b.surgery.Consultations {
		if !b.wantsConsultation(c.Start) {
			continue
		}
		encounter, who := b.encounter(c.Encounter)
		of := &topic{encounter: encounter, date: c.Start}
		var topics []string
		for n, t := range c.Topics {
			var parts []string
			for m, p := range t.Parts {
				var lines []string
				for k, line := range p.Lines {
					lines = append(lines, b.line(of, who, line, b.mine("line", c.ID, ".", n, ".", m, ".", k)))
				}
				id := b.mine("part", c.ID, ".", n, ".", m)
				b.branch(of, id, "24781000000107", "Category (EHR)", p.Title, lines)
				parts = append(parts, "List/"+id)
			}
			id := b.mine("topic", c.ID, ".", n)
			list := b.branch(of, id, "25851000000105", "Topic (EHR)", t.Title, parts)
			if problem := b.problemID(t.Problem); problem != "" {
				list["extension"] = []fhir.M{{"url": cc + "RelatedProblemHeader-1", "extension": []fhir.M{{"url": "target", "valueReference": ref("Condition", problem)}}}}
			}
			topics = append(topics, "List/"+id)
		}
		b.branch(of, b.mine("consultation", c.ID), "325851000000107", "Consultation", c.Type, topics)
	}
}

// line is one thing written in a consultation: a measurement, or words.
func (b *builder) line(t *topic, who fhir.M, i cast.Item, id string) string {
	o := b.base("Observation", "CareConnect-GPC-Observation-1", id, "")
	o["status"], o["subject"], o["context"], o["performer"] = "final", b.subject(), t.encounter, []fhir.M{who}
	o["effectiveDateTime"], o["issued"] = t.date, t.date
	if o["code"] = sct("37331000000100", "Comment note"); i.Code != "" {
		o["code"] = coded(i)
	}
	if i.Text != "" {
		o["comment"] = i.Text
	}
	if i.Value != "" {
		o["valueQuantity"] = quantity(i.Value, i.Unit)
	}
	b.add(o)
	return "Observation/" + id
}

// problemID is the id of the person's problem with a code, if problems are part of the answer.
func (b *builder) problemID(code string) string {
	if code == "" || !b.ask.Asked["includeProblems"] {
		return ""
	}
	for n, i := range append(b.person.ItemsAt(b.p.o.Source), b.surgery.Items...) {
		if i.Code == code {
			return b.mine("problem", n)
		}
	}
	return ""
}

// note is the clinician's words, which practices keep as an observation of a comment.
func (b *builder) note(t *topic, c cast.Encounter, who fhir.M) {
	o := b.base("Observation", "CareConnect-GPC-Observation-1", b.mine("note", c.ID), "")
	o["status"], o["code"], o["subject"], o["context"] = "final", sct("37331000000100", "Comment note"), b.subject(), t.encounter
	o["effectiveDateTime"], o["issued"], o["performer"], o["comment"] = c.Start, c.Start, []fhir.M{who}, c.Note
	b.add(o)
	t.put("History", "Observation/"+o["id"].(string))
}

func (t *topic) put(title, ref string) {
	i := slices.IndexFunc(t.categories, func(c *category) bool { return c.title == title })
	if i < 0 {
		t.categories = append(t.categories, &category{title: title})
		i = len(t.categories) - 1
	}
	t.categories[i].refs = append(t.categories[i].refs, ref)
}

// linkTo hangs what was recorded on the day of a consultation on it.
func (b *builder) linkTo(date, under string, r fhir.M) {
	if len(date) < 10 {
		return
	}
	t := b.topics[date[:10]]
	if t == nil {
		return
	}
	typ := r["resourceType"].(string)
	if typ == "Immunization" {
		r["encounter"] = t.encounter
	} else {
		r["context"] = t.encounter
	}
	t.put(under, typ+"/"+r["id"].(string))
}

// writeTopics writes the tree of lists: consultation, topic, category.
func (b *builder) writeTopics() {
	days := make([]string, 0, len(b.topics))
	for d := range b.topics {
		days = append(days, d)
	}
	slices.Sort(days)
	for _, d := range days {
		t := b.topics[d]
		var cats []string
		for _, c := range t.categories {
			id := b.uuid(t.id, c.title)
			cats = append(cats, "List/"+id)
			b.branch(t, id, "24781000000107", "Category (EHR)", c.title, c.refs)
		}
		b.branch(t, t.id, "25851000000105", "Topic (EHR)", t.title, cats)
		b.branch(t, t.consultation, "325851000000107", "Consultation", "Consultation", []string{"List/" + t.id})
	}
}

func (b *builder) branch(t *topic, id, code, display, title string, refs []string) fhir.M {
	r := fhir.M{"resourceType": "List", "id": id, "meta": gpconnect.Profile("CareConnect-GPC-List-1"), "status": "current", "mode": "snapshot",
		"code": sct(code, display), "subject": b.subject(), "encounter": t.encounter, "date": t.date,
		"orderedBy": fhir.M{"coding": []fhir.M{{"system": "http://hl7.org/fhir/list-order", "code": "system"}}}}
	if title != "" {
		r["title"] = title
	}
	var entries []fhir.M
	for _, ref := range refs {
		entries = append(entries, fhir.M{"item": fhir.M{"reference": ref}})
	}
	if len(entries) > 0 {
		r["entry"] = entries
	}
	b.add(r)
	return r
}
