package world

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"tombolo/dataset"
	"tombolo/sim/cast"
	"tombolo/sim/lookout"
)

// Every fact that the region is seeded with bears a random word, and every answer that a test of this package gets is looked through for words that whoever
// reads it may not see. It is always on: a leak fails the run, whatever was tested. What may be seen is told here anew, in the simplest words, and not by asking
// policy. Where nobody may see any, in logs, metrics, files, addresses and refusals, the lookout looks for them (package lookout).
var canaries = aviary{words: map[string]canary{}}

type canary struct {
	person  string // key in the cast
	objects bool
	heading dataset.Heading
	label   string
	std     bool // its code is on a list of sensitive codes
	place   bool // where a restricted person lives
}

type aviary struct {
	mu    sync.Mutex
	words map[string]canary
	seen  map[string]int // words seen by who may
	leaks []string
}

var word = regexp.MustCompile(`CNRY[A-Z2-7]{26}`)

// mark puts a word into each fact. Medicines' doses stay as they are: two doses that differ are two medicines.
func (a *aviary) mark(people []cast.Person) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = map[string]int{}
	for i := range people {
		p := &people[i]
		if p.NHS != "" {
			lookout.Hide(p.NHS)
		}
		put := func(text *string, c canary) {
			c.person, c.objects = p.Key, p.Objects
			w := "CNRY" + rand.Text()
			a.words[w] = c
			lookout.Hide(w)
			*text = strings.TrimSpace(*text + " " + w)
		}
		if p.Restricted && len(p.Address) > 0 { // whoever writes of them may write where they live
			put(&p.Address[0], canary{heading: dataset.Demographics, place: true})
			p.Items = append(p.Items, cast.Item{Heading: dataset.Problems, System: "http://snomed.info/sct", Code: "38341003", Display: "Hypertension", Text: "Seen at " + p.Address[0], Date: "2024-05-05", Status: "active", Held: []string{cast.Acute, cast.GP2}})
			for _, at := range []string{cast.Acute, cast.Council} {
				p.Documents = append(p.Documents, cast.Document{ID: "LTR-" + at, Title: "Letter", Type: "Clinical letter", Date: "2026-05-05", Text: "To " + p.Address[0] + ", " + p.Postcode, By: "Dr Femi Ade", Held: []string{at}})
			}
		}
		for k := range p.Items {
			it := &p.Items[k]
			put(&it.Text, canary{heading: it.Heading, label: it.Label, std: it.Code == "8098009"})
		}
		for k := range p.Encounters {
			put(&p.Encounters[k].Reason, canary{heading: dataset.Encounters})
		}
		for k := range p.Appointments {
			put(&p.Appointments[k].Reason, canary{heading: dataset.Appointments})
		}
		for k := range p.Reports {
			heading := dataset.Results
			if p.Reports[k].Imaging {
				heading = dataset.Imaging
			}
			put(&p.Reports[k].Text, canary{heading: heading})
		}
		for k := range p.Medications {
			put(&p.Medications[k].For, canary{heading: dataset.Medications})
		}
		for k := range p.Documents {
			put(&p.Documents[k].Text, canary{heading: dataset.Documents})
		}
	}
}

// What the demo's users who are not clinicians may see at most.
var canarySees = map[string][]dataset.Heading{
	"receptionist": {dataset.Demographics, dataset.GPPractice, dataset.PersonalContacts, dataset.Appointments},
	"social-worker": {dataset.Demographics, dataset.GPPractice, dataset.ProfessionalContacts, dataset.PersonalContacts, dataset.AboutMe, dataset.Alerts, dataset.Allergies,
		dataset.Problems, dataset.Encounters, dataset.Appointments, dataset.CarePlans, dataset.RiskAssessments, dataset.Legal, dataset.Safeguarding, dataset.EndOfLife,
		dataset.SocialCare, dataset.SocialContext, dataset.Documents, dataset.Devices},
}

// unmarked is a page without the words.
func unmarked(page string) string {
	return regexp.MustCompile(` ?CNRY[A-Z2-7]{26}`).ReplaceAllString(page, "")
}

// may tells whether a user may see a word, and why not.
func (c canary) may(user string, emergency bool) string {
	sensitive := c.label == "R" || c.std
	switch user {
	case "gp", "doctor", "nurse", "paramedic":
	case "receptionist", "social-worker":
		if !slices.Contains(canarySees[user], c.heading) {
			return "their role does not see " + string(c.heading)
		}
		if sensitive {
			return "it is restricted to clinicians"
		}
	case "citizen":
		switch {
		case c.person != cast.Main:
			return "it is somebody else's"
		case c.label == "NOPAT":
			return "its source says not to show it to the person"
		}
		return ""
	default:
		return "they open no records"
	}
	if c.place {
		return "it tells where a restricted person lives"
	}
	if c.objects && !emergency {
		return "the person objects"
	}
	return ""
}

// see looks through an answer.
func (a *aviary) see(user string, asked, answered []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	emergency := bytes.Contains(asked, []byte("ETREAT"))
	for _, w := range word.FindAll(answered, -1) {
		c, ok := a.words[string(w)]
		if !ok {
			continue // of another region of the same run
		}
		if why := c.may(user, emergency); why != "" {
			a.leaks = append(a.leaks, fmt.Sprintf("CANARY: %s was given an entry of %s under %s, and may not: %s", user, c.person, c.heading, why))
			continue
		}
		a.seen[string(w)]++
	}
}

func (a *aviary) told() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.leaks) == 0 {
		return ""
	}
	return strings.Join(a.leaks[:min(len(a.leaks), 20)], "\n") + fmt.Sprintf("\n%d words were where they may not be\n", len(a.leaks))
}

// Every user asks for everybody, in every way; the canaries tell what came where. That words do come to those who may see them shows that
// the canaries sing.
func TestNoWordReachesWhoMayNotReadIt(t *testing.T) {
	c := severn(t)
	users := []string{"gp", "doctor", "nurse", "paramedic", "social-worker", "receptionist", "privacy", "operator", "citizen"}
	for _, key := range []string{cast.Main, "daniel", "sam", "chloe"} { // one like most, one who objects, one with sensitive entries, one whose whereabouts must not be known
		p := c.w.Person(key)
		_, b, err := c.gather("doctor", nhs(p))
		if err != nil {
			t.Fatal(err)
		}
		id := "nobody"
		if b != nil && personOf(b) != "" {
			id = personOf(b)
		}
		for _, user := range users {
			if key == "daniel" && slices.Contains([]string{"gp", "nurse", "paramedic"}, user) {
				continue // as the doctor is: each refusal to a clinician takes its second
			}
			for _, r := range ways(id, nhs(p)) {
				c.one(t, r, user)
			}
		}
	}
	if len(canaries.seen) < 25 {
		t.Errorf("only %d of %d words were seen by anybody: the canaries do not sing", len(canaries.seen), len(canaries.words))
	}
	t.Logf("%d of %d words were seen by who may see them", len(canaries.seen), len(canaries.words))
	if told := canaries.told(); told != "" {
		t.Error(told)
	}
}

// An aviary that does not notice is worth nothing.
func TestCanariesNoticeEachKindOfLeak(t *testing.T) {
	a := aviary{words: map[string]canary{}}
	people := []cast.Person{{Key: "x", NHS: "9990000107", Objects: true, Items: []cast.Item{{Heading: dataset.Problems}, {Heading: dataset.Legal, Label: "R"}}}}
	a.mark(people)
	for i, leak := range []func(){
		func() { a.see("doctor", nil, []byte(people[0].Items[0].Text)) },
		func() { a.see("social-worker", []byte("ETREAT"), []byte(people[0].Items[1].Text)) },
		func() { a.see("receptionist", []byte("ETREAT"), []byte(people[0].Items[0].Text)) },
		func() { a.see("citizen", nil, []byte(people[0].Items[0].Text)) },
		func() { a.see("nobody", nil, []byte(people[0].Items[0].Text)) },
	} {
		leak()
		if len(a.leaks) != i+1 {
			t.Errorf("leak %d was not noticed", i)
		}
	}
	if a.see("doctor", []byte("ETREAT"), []byte(people[0].Items[0].Text)); len(a.leaks) != 5 || len(a.seen) != 1 {
		t.Errorf("what may be seen was taken for a leak: %v", a.leaks)
	}
}
