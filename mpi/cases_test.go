package mpi_test

import (
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/mpi/match"
)

// register is an index that trusts the source "pds".
func trusting(t *testing.T) *desk {
	d := open(t, t.TempDir())
	t.Cleanup(func() { _ = d.db.Close() })
	d.Trust("pds")
	return d
}

func numbered(ids ...fhir.Identifier) fhir.M { return fhir.M{"identifier": ids} }

func nhs(n string) fhir.Identifier {
	return fhir.Identifier{System: fhir.SystemNHSNumber, Value: n}
}

func was(n string) fhir.Identifier {
	return fhir.Identifier{Use: "old", System: fhir.SystemNHSNumber, Value: n}
}

func (d *desk) person(patient string) *mpi.Person {
	d.t.Helper()
	return must(d.Person(d.t.Context(), must(d.PersonOf(d.t.Context(), patient))))
}

const another = "9990000220"

func TestTheRegisterSaysWhoseANumberIs(t *testing.T) {
	d := trusting(t)
	d.register("hospital", margaret, "Stranger", "1970-01-01") // who came first with her number
	d.registerAt("pds", "p", margaret, "Taylor", "1948-03-12")
	d.wants("PDS knows better", map[string]string{margaret: "Taylor"}, 1)
	if d.same("hospital", "p") {
		t.Error("the stranger is taken for the number's holder")
	}
	if n := d.person("hospital").NHSNumber; n != "" {
		t.Error("the stranger is still known by the number")
	}
	d.register("gp", margaret, "Taylor", "1948-03-12")
	if !d.same("gp", "p") {
		t.Error("her practice's record is not linked to the register's")
	}
	d.register("hospital", margaret, "Taylor", "1948-03-12")
	d.wants("put right", map[string]string{margaret: "Taylor"}, 0)
	if !d.same("hospital", "p") {
		t.Error("put right, the hospital's record is not hers")
	}
	d.empty()
	d.seq = 0
	d.follow()
	if len(d.people("hospital", "gp", "p")) != 1 || d.opens(margaret) != "Taylor" {
		t.Errorf("rebuilt from the log they are %v", d.people("hospital", "gp", "p"))
	}
}

func TestASupersededNumberIsReplacedWhereverItIsHeld(t *testing.T) {
	d := trusting(t)
	d.register("gp", margaret, "Taylor", "1948-03-12")
	d.register("hospital", another, "Taylor", "1948-03-12") // registered twice, under two numbers
	if d.same("gp", "hospital") {
		t.Fatal("two numbers were taken for one person's before the register said so")
	}
	d.registerAt("pds", "p", "", "Taylor", "1948-03-12", numbered(nhs(another), was(margaret)))
	if !d.same("gp", "hospital") || !d.same("gp", "p") {
		t.Fatalf("superseded, they are %v", d.people("gp", "hospital", "p"))
	}
	p := d.person("gp")
	if p.NHSNumber != another || len(p.Superseded) != 1 || p.Superseded[0] != margaret {
		t.Errorf("she is known by %q, before by %q", p.NHSNumber, p.Superseded)
	}
	d.wants("by either number", map[string]string{margaret: "Taylor", another: "Taylor"}, 0)
	d.register("gp", margaret, "Taylor", "1948-03-12", lives("ZZ1 1AA", "2 New Street", "01632 960999")) // a source that has not heard, and speaks last
	if p := d.person("gp"); p.NHSNumber != another {
		t.Error("a source that still uses the old number has brought it back")
	}
}

func TestAnInvalidatedNumberLeadsToNobody(t *testing.T) {
	d := trusting(t)
	d.register("gp", margaret, "Taylor", "1948-03-12")
	d.registerAt("pds", "p", margaret, "", "", fhir.M{"active": false, "meta": fhir.M{"source": "urn:tombolo:source:pds#p", "security": []fhir.Coding{{System: fhir.SystemConfidentiality, Code: "REDACTED"}}}})
	d.wants("invalidated", map[string]string{margaret: ""}, 1)
	d.register("hospital", margaret, "Khan", "2015-11-05")
	d.wants("and sent again", map[string]string{margaret: ""}, 2)
	d.registerAt("pds", "p", margaret, "Taylor", "1948-03-12")
	d.wants("valid again", map[string]string{margaret: "Taylor"}, 1)
}

func TestWhatTheRegisterSaysOfPracticeAndDeathGoesBeforeWhatOthersSay(t *testing.T) {
	d := trusting(t)
	gp := func(ods string) fhir.M {
		return fhir.M{"generalPractitioner": []fhir.M{{"identifier": fhir.M{"system": fhir.SystemODS, "value": ods}}}}
	}
	d.registerAt("pds", "p", margaret, "Taylor", "1948-03-12", gp("M85002"), fhir.M{"deceasedDateTime": "2026-11-01"})
	d.register("gp", margaret, "Taylor", "1948-03-12", gp("M85001")) // speaks last, and has not heard
	if p := d.person("gp"); p.Practice != "M85002" || p.Deceased != "2026-11-01" {
		t.Errorf("registered at %q, died %q", p.Practice, p.Deceased)
	}
}

// Twins share all but the given name, and often a slip away from it.
func TestTwinsAreTwo(t *testing.T) {
	d := trusting(t)
	d.register("aisha", "", "Khan", "2015-11-05", called("Aisha", "Khan"), mill)
	d.register("anisa", "", "Khan", "2015-11-05", called("Anisa", "Khan"), mill)
	d.register("boy", "", "Khan", "2015-11-05", called("Ali", "Khan"), mill, fhir.M{"gender": "male"})
	if len(d.people("aisha", "anisa", "boy")) != 3 {
		t.Errorf("triplets are %v", d.people("aisha", "anisa", "boy"))
	}
}

// A newborn is Baby Taylor at its mother's address before it has a name or a number, and is neither its twin nor its mother.
func TestANewbornIsNeitherItsTwinNorItsMother(t *testing.T) {
	d := trusting(t)
	d.register("mother", margaret, "Taylor", "1990-03-12", called("Margaret", "Taylor"), mill)
	d.register("one", "", "Taylor", "2026-11-20", called("Baby", "Taylor"), mill)
	d.register("two", "", "Taylor", "2026-11-20", called("Twin", "Taylor"), mill)
	if len(d.people("mother", "one", "two")) != 3 {
		t.Fatalf("mother and babies are %v", d.people("mother", "one", "two"))
	}
	d.register("one", another, "Taylor", "2026-11-20", called("Rose", "Taylor"), mill) // named, and given its number
	d.registerAt("pds", "p", another, "Taylor", "2026-11-20", called("Rose", "Taylor"), mill)
	if !d.same("one", "p") || d.same("two", "p") {
		t.Errorf("the register's newborn is %v", d.people("one", "two", "p"))
	}
}

func TestAChangedNameIsTheSamePersonUnderTheSameNumber(t *testing.T) {
	d := trusting(t)
	d.register("gp", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	d.register("hospital", margaret, "Okonkwo-Taylor", "1948-03-12", called("Margaret", "Okonkwo"), lives("ZZ1 1AA", "1 Elsewhere", "07700 900111"))
	if !d.same("gp", "hospital") {
		t.Error("married, she is somebody else")
	}
}

// Who was adopted, or has changed gender and was given a new number, has left the old record behind: it is not linked, and nobody is shown the way from one to
// the other: not the stewards, and not whoever asks with what one of the two says.
func TestNobodyIsShownTheWayToARecordThatWasLeftBehind(t *testing.T) {
	for name, now := range map[string][]fhir.M{
		"adopted":        {called("Leo", "Marsh"), lives("ZZ5 5EE", "9 Harbour View", "07700 900222"), {"gender": "male"}},
		"gender changed": {called("Alexandra", "Taylor"), mill, {"gender": "female"}},
		"same name":      {called("Sam", "Taylor"), mill, {"gender": "female"}},
	} {
		d := trusting(t)
		before := []fhir.M{called("Leo", "Taylor"), mill, {"gender": "male"}}
		switch name {
		case "gender changed":
			before = []fhir.M{called("Alexander", "Taylor"), mill, {"gender": "male"}}
		case "same name":
			before = []fhir.M{called("Sam", "Taylor"), mill, {"gender": "male"}}
		}
		d.register("before", margaret, "Taylor", "2018-04-05", before...)
		d.register("now", another, "Taylor", "2018-04-05", now...)
		if d.same("before", "now") || d.maybes() != 0 {
			t.Errorf("%s: linked %v, shown to stewards %d", name, d.same("before", "now"), d.maybes())
		}
		p := d.person("now")
		q := p.Patients[0]
		found := must(d.Match(t.Context(), q.Describe(), 10, nil))
		for _, c := range found {
			if c.Patient == "before" {
				t.Errorf("%s: asked with the new record, the old one is shown: %s", name, c.Grade)
			}
		}
		if len(p.Superseded)+len(p.Patients) != 1 {
			t.Errorf("%s: the new record tells of the old: %+v", name, p)
		}
	}
}

func TestWhoHasDiedIsStillThemselvesAndNobodyElse(t *testing.T) {
	d := trusting(t)
	d.register("father", margaret, "Taylor", "1948-03-12", called("John", "Taylor"), mill, fhir.M{"gender": "male", "deceasedDateTime": "2020-01-02"})
	d.register("hospital", "", "Taylor", "1948-03-12", called("John", "Taylor"), mill, fhir.M{"gender": "male"})
	d.register("son", "", "Taylor", "1975-06-07", called("John", "Taylor"), mill, fhir.M{"gender": "male"})
	if !d.same("father", "hospital") || d.same("father", "son") {
		t.Errorf("the dead, his hospital record and his son are %v", d.people("father", "hospital", "son"))
	}
	if p := d.person("hospital"); p.Deceased != "2020-01-02" {
		t.Errorf("that he died is %q where one source told of it", p.Deceased)
	}
}

// A merge arrives as Patient.link replaced-by, from FHIR as it is, and from HL7 A40 as its connector writes it (TestAMergeMovesThePatientAndNothingElse).
func TestAMergeByPatientLinkIsFollowedAndTakenBack(t *testing.T) {
	d := trusting(t)
	d.register("keeps", margaret, "Taylor", "1948-03-12")
	d.register("goes", "", "Green", "1950-01-01", numbered(fhir.Identifier{System: "mrn", Value: "G1"}))
	d.register("goes", "", "Green", "1950-01-01", fhir.M{"active": false, "link": []fhir.M{{"type": "replaced-by", "other": fhir.Reference{Reference: "Patient/keeps"}}}})
	if !d.same("keeps", "goes") {
		t.Fatal("merged, they are two")
	}
	if id, err := d.Resolve(t.Context(), fhir.Identifier{System: "mrn", Value: "G1"}); err != nil || id != must(d.PersonOf(t.Context(), "keeps")) {
		t.Errorf("the number of the one who was merged leads to %q, %v", id, err)
	}
	d.register("goes", "", "Green", "1950-01-01", numbered(fhir.Identifier{System: "mrn", Value: "G1"}))
	if d.same("keeps", "goes") {
		t.Error("the merge was taken back, and they are still one")
	}
}

// Across a link that a steward disputes nothing is linked again: not by a number, not by likeness, not by the register, and not through a third.
func TestNothingIsLinkedAcrossADisputedLink(t *testing.T) {
	d := trusting(t)
	d.register("a", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	d.register("b", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	d.says(mpi.Saying{A: "a", B: "b"}, false)
	d.registerAt("pds", "p", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	d.register("c", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	d.register("b", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill, fhir.M{"active": true})
	if d.same("a", "b") {
		t.Errorf("told apart by a steward, they are %v", d.people("a", "b", "c", "p"))
	}
}

// Nor does a third who fits both bring them together again at any time: neither by a number that both have, nor by one of each, nor by being like both.
func TestAThirdWhoFitsBothBringsNobodyTogether(t *testing.T) {
	for name, third := range map[string]func(d *desk){
		"the register's own": func(d *desk) {
			d.registerAt("pds", "c", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
		},
		"the same number": func(d *desk) { d.register("c", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill) },
		"the number of each": func(d *desk) {
			d.register("c", "", "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill, numbered(fhir.Identifier{System: fhir.SystemNHSNumber, Value: margaret}, fhir.Identifier{Use: "old", System: fhir.SystemNHSNumber, Value: george}))
		},
		"no number, and like": func(d *desk) { d.register("c", "", "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill) },
	} {
		t.Run(name, func(t *testing.T) {
			d := trusting(t)
			d.register("a", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
			if name == "the number of each" {
				d.register("b", george, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
			} else {
				d.register("b", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
			}
			d.says(mpi.Saying{A: "a", B: "b"}, false)
			third(d)
			if d.same("a", "b") {
				t.Errorf("told apart by a steward, they are %v", d.people("a", "b", "c"))
			}
		})
	}
}

// A steward has told two people apart who bear one number. A third source's record with that number, which could be either's, is given to neither: somebody is to look at it,
// and the number opens what it opened before. Once a steward has said who it is, it is theirs.
func TestARecordThatCouldBeEitherOfTwoWhoShareANumberIsLookedAt(t *testing.T) {
	d := open(t, t.TempDir())
	defer d.db.Close()
	elsewhere := lives("ZZ1 1AA", "1 Elsewhere", "07700 900111")
	d.register("a", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	d.register("b", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), elsewhere)
	d.says(mpi.Saying{A: "a", B: "b"}, false)
	was := must(d.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: margaret}))
	looked := func() string {
		for _, r := range must(d.Reviews(t.Context())) {
			if r.Patient == "c" {
				return r.Why
			}
		}
		return ""
	}
	for range 2 { // and told of again, it is no different
		d.register("c", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"))
		if d.same("a", "c") || d.same("b", "c") || !strings.Contains(looked(), "a steward has told apart") {
			t.Errorf("who is who: %v; to be looked at: %q", d.people("a", "b", "c"), looked())
		}
	}
	if is := must(d.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: margaret})); is != was {
		t.Error("the number opens another record than before")
	}
	cb := mpi.Saying{A: "b", B: "c", Same: true}
	d.says(cb, false)
	if !d.same("b", "c") || d.same("a", "c") {
		t.Errorf("a steward has said that c is b: %v", d.people("a", "b", "c"))
	}
	d.says(cb, true)

	// One whose description is of one of the two alone is that one's, as with any other number.
	d.register("a", margaret, "Taylor", "1950-11-30", called("Dorothy", "Taylor"), mill)
	d.register("c", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), fhir.M{"active": true})
	if !d.same("b", "c") || looked() != "" {
		t.Errorf("only b is described so: %v, to be looked at: %q", d.people("a", "b", "c"), looked())
	}
}

// Where the register says whose the number is, a record with it is theirs.
func TestTheRegisterSettlesWhoseASharedNumberIs(t *testing.T) {
	d := trusting(t)
	d.register("a", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	d.register("b", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	d.says(mpi.Saying{A: "a", B: "b"}, false)
	d.registerAt("pds", "p", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	d.register("c", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	if !d.same("p", "c") || d.same("a", "b") {
		t.Errorf("who is who: %v", d.people("a", "b", "c", "p"))
	}
}

// What may not be told of has no part in how certain the others are.
func TestWhoMayNotBeToldOfHasNoPartInAMatch(t *testing.T) {
	d := trusting(t)
	d.registerAt("open", "a", margaret, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	d.registerAt("shut", "b", another, "Taylor", "1948-03-12", called("Margaret", "Taylor"), mill)
	asked := mpi.Patient{Name: fhir.HumanName{Family: "Taylor", Given: []string{"Margaret"}}, BirthDate: "1948-03-12", Gender: "female", Address: &fhir.Address{PostalCode: "ZZ99 3AB"}}
	all := must(d.Match(t.Context(), asked.Describe(), 10, nil))
	if len(all) != 2 || all[0].Grade != "probable" {
		t.Fatalf("two who are both certain: %+v", all)
	}
	one := must(d.Match(t.Context(), asked.Describe(), 10, func(_ *mpi.Person, source string) (bool, error) { return source == "open", nil }))
	if len(one) != 1 || one[0].Grade != "certain" {
		t.Errorf("told of one only: %+v", one)
	}
	if none := must(d.Match(t.Context(), match.Description{}, 10, nil)); len(none) != 0 {
		t.Errorf("nothing said finds %d", len(none))
	}
}
