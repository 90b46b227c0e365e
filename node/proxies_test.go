package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/audit"
	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/region"
)

// proxyFile is a region with a hospital, a practice and a register of validated relationships, which BELIEVED names or not.
const proxyFile = `
region: {id: north, name: North Shared Care Record}
organisations:
  - {ods: RX1, name: North Acute Trust, kind: acute}
  - {ods: M85001, name: Hilltop Surgery, kind: gp}
  - {ods: QSV, name: North Integrated Care Board, kind: other}
systems:
  - {id: pas, organisation: RX1, connector: api, gives: {demographics: push, results: push, appointments: push, legal: push}}
  - {id: gp, organisation: M85001, connector: api, gives: {demographics: push, results: push, legal: push}}
  - {id: vrs, organisation: QSV, connector: api, gives: {demographics: push, legal: push}}
agreements:
  - {id: care, parties: [RX1, M85001], purposes: [direct-care], headings: all, from: 2020-04-01}
policy: {version: "VERSION", author: A. Guardian, reason: a test, BELIEVED}
limits: {opens: 0}
users:
  - {id: mum, name: Joan Fox, role: citizen, person: "https://fhir.nhs.uk/Id/nhs-number|9990000433", token_sha256: "MUM"}
  - {id: medic, name: A Doctor, role: hospital-doctor, organisation: RX1, token_sha256: "MEDIC"}
`

// actsFor is a Consent in the shape of the NHS Validated Relationships Service: the mother may act for the child.
func actsFor(basis string) *fhir.Resource {
	mother := fhir.M{"identifier": fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000433"}}
	return fhir.New("Consent", "acts", fhir.M{"status": "active", "patient": fhir.Reference{Reference: "Patient/p"}, "scope": fhir.Code("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy", ""),
		"provision": fhir.M{"type": "permit", "actor": []fhir.M{{"role": fhir.Code("https://fhir.nhs.uk/England/CodeSystem/England-NHSProxyLegalBasis", basis, ""), "reference": mother}}}})
}

// aFamily is a node of proxyFile that holds a child, born on a day, with a result at each of the hospital and the practice, and an appointment.
type aFamily struct {
	*Node
	t     *testing.T
	clock *clock
	path  string
	child string
}

func family(t *testing.T, born, believed string) *aFamily {
	t.Helper()
	f := &aFamily{t: t, clock: &clock{}, path: filepath.Join(t.TempDir(), "north.yaml")}
	f.clock.at.Store(time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC).UnixNano())
	f.write("1", believed)
	r, problems := region.Load(f.path)
	if region.Broken(problems) {
		t.Fatal(problems)
	}
	n, err := New(t.Context(), Config{Region: r, Folder: filepath.Dir(f.path), File: f.path, Data: t.TempDir(), Now: f.clock.now, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	f.Node = n
	ctx, cancel := context.WithCancel(context.Background())
	n.Start(ctx)
	t.Cleanup(func() { cancel(); _ = n.Close() })
	of := fhir.Reference{Reference: "Patient/p"}
	for _, source := range []string{"pas", "gp", "vrs"} {
		content := []*fhir.Resource{}
		if source != "vrs" {
			content = append(content, fhir.New("Observation", "o", fhir.M{"status": "final", "subject": of, "effectiveDateTime": "2026-05-01", "code": fhir.CodeableConcept{Text: "Result of " + source},
				"category": []any{fhir.Code("http://terminology.hl7.org/CodeSystem/observation-category", "laboratory", "")}, "valueString": "HERON"}))
		}
		if source == "pas" {
			content = append(content, fhir.New("Appointment", "a", fhir.M{"status": "booked", "start": "2026-05-03T09:00:00Z", "end": "2026-05-03T09:20:00Z", "description": "EGRET", "participant": []fhir.M{{"actor": of, "status": "accepted"}}}))
		}
		f.tell(source, born, content...)
	}
	f.child, err = n.People.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000107"})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *aFamily) write(version, believed string) {
	hash := func(token string) string { sum := sha256.Sum256([]byte(token)); return hex.EncodeToString(sum[:]) }
	text := strings.NewReplacer("VERSION", version, ", BELIEVED", believed, "MUM", hash("mum"), "MEDIC", hash("medic")).Replace(proxyFile)
	if err := os.WriteFile(f.path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// tell has a source say something of the child, whom it says to have been born on a day.
func (f *aFamily) tell(source, born string, content ...*fhir.Resource) {
	f.t.Helper()
	child := fhir.New("Patient", "p", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990000107"}}, "name": []fhir.HumanName{{Family: "Fox", Given: []string{"Tom"}}}, "birthDate": born})
	content = append([]*fhir.Resource{child}, content...)
	var raw []byte
	for _, r := range content {
		raw = append(raw, r.Raw()...)
	}
	f.clock.at.Add(int64(time.Second))
	if _, err := f.Intake.Accept(f.t.Context(), connector.Delivery{Source: source, Received: f.clock.now(), Raw: raw, Patient: "p", Map: "test/1", Content: content}); err != nil {
		f.t.Fatal(err)
	}
}

// on makes it another day, on which the region file has been looked at.
func (f *aFamily) on(day string) {
	f.t.Helper()
	at, err := time.Parse(time.RFC3339, day)
	if err != nil {
		f.t.Fatal(err)
	}
	f.clock.at.Store(at.UnixNano())
	if err := f.agreed.reread(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

// sees tells what somebody gets to see of the child's record over the API: results of the hospital's, of the practice's, and appointments; "nothing" of somebody who is told that nobody is known.
func (f *aFamily) sees(user string) string {
	f.t.Helper()
	got := f.knock("GET", "/fhir/Patient/"+f.child+"/$everything", "", "Authorization", "Bearer "+user)
	if got.Code == http.StatusNotFound {
		return "nothing"
	}
	if got.Code != http.StatusOK {
		f.t.Fatalf("%s: %d %s", user, got.Code, got.Body)
	}
	var out []string
	for what, sign := range map[string]string{"appointments": "EGRET", "gp": "Result of gp", "hospital": "Result of pas"} {
		if strings.Contains(got.Body.String(), sign) {
			out = append(out, what)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (f *aFamily) expect(what, want string) {
	f.t.Helper()
	if got := f.sees("mum"); got != want {
		f.t.Errorf("%s: the mother sees %q, want %q", what, got, want)
	}
}

// Who acts for whom is believed of the systems that the region file names, and of nobody else: an ordinary feed that says so lets nobody in. Once the name is taken out of the file
// nobody is let in any more within the minute in which a change of the file is in force.
func TestWhoActsForSomebodyIsBelievedOfWhomTheFileNames(t *testing.T) {
	f := family(t, "2019-03-12", "")
	f.expect("nobody said so", "nothing")
	f.tell("pas", "2019-03-12", actsFor("parental-responsibility"))
	f.expect("the hospital's feed says so, and the file names nobody", "nothing")
	f.tell("vrs", "2019-03-12", actsFor("parental-responsibility"))
	f.expect("the register says so, and the file names nobody", "nothing")

	f.write("2", ", proxies: [gp]")
	f.on("2026-06-02T09:00:00Z")
	f.expect("the file names another than who said so", "nothing")
	f.write("3", ", proxies: [vrs]")
	f.on("2026-06-02T09:01:00Z")
	f.expect("the file names the register", "appointments gp hospital")

	// An operator finds why it is so, and that what the hospital said is not heeded.
	e, err := f.Explain(t.Context(), ExplainAsk{By: audit.Agent{User: "op"}, Person: f.child, User: "mum", On: f.clock.now()})
	if err != nil {
		t.Fatal(err)
	}
	if !e.Opening.Permit || !e.Opening.Because("proxy") || len(e.Unheeded) != 1 || !strings.HasPrefix(e.Unheeded[0], "pas says that somebody acts for the person") {
		t.Errorf("explained: %+v, not heeded %q", e.Opening, e.Unheeded)
	}

	f.write("4", "")
	f.on("2026-06-02T09:01:50Z")
	f.expect("the name is taken out of the file", "nothing")
	if e, err = f.Explain(t.Context(), ExplainAsk{By: audit.Agent{User: "op"}, Person: f.child, User: "mum", On: f.clock.now()}); err != nil || e.Opening.Permit || !e.Opening.Because("proxy-source") || len(e.Unheeded) != 2 {
		t.Errorf("explained: %+v, not heeded %q (%v)", e.Opening, e.Unheeded, err)
	}
	said := false
	for entry, err := range f.Audit.Show(t.Context(), f.child, 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		s, err := entry.Summary()
		said = said || err == nil && slices.Contains(s.What, "refused: proxy-source")
	}
	if !said {
		t.Error("the audit log does not say why the mother was refused")
	}
}

// A parent's view shrinks on the 11th birthday and ends on the 16th, at midnight in Britain, whatever is said of the child by somebody who is not named: neither another basis, nor
// another day of birth, makes it last.
func TestAParentsViewShrinksAndEndsOnTheBirthdays(t *testing.T) {
	const born = "2015-06-20"
	f := family(t, born, ", proxies: [vrs]")
	f.tell("vrs", born, actsFor("parental-responsibility"))
	f.expect("at ten", "appointments gp hospital")
	f.on("2026-06-20T11:00:00Z")
	f.expect("on the 11th birthday", "appointments")
	f.tell("pas", born, actsFor("lasting-power-of-attorney"))
	f.expect("the hospital's feed says that she has a power of attorney", "appointments")
	f.tell("pas", "2016-06-20")
	f.expect("the hospital says that he was born a year later", "appointments")
	f.on("2031-06-19T11:00:00Z")
	f.expect("the day before the 16th birthday", "appointments")
	f.on("2031-06-20T11:00:00Z")
	f.expect("on the 16th birthday, which the hospital has a year later", "nothing")
}

// That a young person decides for themselves (Gillick) may be said by whoever has assessed it: it shuts a parent out and lets nobody in.
func TestThatAYoungPersonDecidesShutsAParentOutWhoeverSaysIt(t *testing.T) {
	const born = "2012-06-20"
	f := family(t, born, ", proxies: [vrs]")
	f.tell("vrs", born, actsFor("parental-responsibility"))
	f.expect("at thirteen", "appointments")
	doctor := f.sees("medic")
	f.tell("pas", born, fhir.New("Consent", "capable", fhir.M{"status": "active", "patient": fhir.Reference{Reference: "Patient/p"}, "scope": fhir.Code("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy", ""),
		"category": []any{fhir.Code(policy.SystemChoice, "capable", "")}, "provision": fhir.M{"type": "permit"}}))
	f.expect("the hospital has assessed him as deciding for himself", "nothing")
	if got := f.sees("medic"); got != doctor || !strings.Contains(got, "hospital") {
		t.Errorf("the doctor sees %q, and saw %q", got, doctor)
	}
}

// A feed may say of somebody what shall not be shared, also of what others hold. What it says that they permit opens no more than what it holds itself.
func TestAFeedMayCloseWhatOthersHoldAndNotOpenIt(t *testing.T) {
	f := family(t, "1980-06-20", "")
	consent := func(id, typ string, more fhir.M) *fhir.Resource {
		provision := fhir.M{"type": typ}
		for k, v := range more {
			provision[k] = v
		}
		return fhir.New("Consent", id, fhir.M{"status": "active", "patient": fhir.Reference{Reference: "Patient/p"}, "scope": fhir.Code("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy", ""), "provision": provision})
	}
	sees := func(what, want string) {
		t.Helper()
		if got := f.sees("medic"); got != want {
			t.Errorf("%s: the doctor sees %q, want %q", what, got, want)
		}
	}
	sees("no choices", "appointments gp hospital")
	only := consent("only", "permit", fhir.M{"class": []fhir.Coding{{System: fhir.SystemHeading, Code: "appointments"}}})
	f.tell("gp", "1980-06-20", only)
	sees("the practice was told that nothing but appointments may be shared", "appointments")
	f.tell("pas", "1980-06-20", consent("all", "permit", nil))
	sees("the hospital says that everything may be", "appointments hospital")
	f.write("2", ", permissions: [pas]")
	f.on("2026-06-02T09:00:00Z")
	sees("and the file has it believed", "appointments gp hospital")
	f.write("3", "")
	f.on("2026-06-02T09:00:50Z")
	sees("and does no more", "appointments hospital")
	f.tell("vrs", "1980-06-20", consent("none", "deny", nil))
	sees("a system that holds nothing says that nothing may be", "nothing")
}
