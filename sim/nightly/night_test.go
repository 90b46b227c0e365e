package nightly_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/connector/extract"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
	"tombolo/sim/community"
	"tombolo/sim/council"
)

// A recorder is a door that keeps what comes through it, once only, the newest version of each resource.
type recorder struct {
	mu        sync.Mutex
	seen      map[string]bool
	resources map[string]*fhir.Resource // patient + reference
	accepted  int
	rejected  []connector.Delivery
	warnings  []*fhir.Issue
}

func newRecorder() *recorder {
	return &recorder{seen: map[string]bool{}, resources: map[string]*fhir.Resource{}}
}

func (r *recorder) Accept(_ context.Context, d connector.Delivery) (connector.Receipt, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := fmt.Sprintf("%s|%s|%x", d.Source, d.ID, sha256.Sum256(d.Raw))
	if r.seen[key] {
		return connector.Receipt{Duplicate: true}, nil
	}
	r.seen[key] = true
	r.warnings = append(r.warnings, d.Issues...)
	if d.Rejected != nil {
		r.rejected = append(r.rejected, d)
		return connector.Receipt{}, nil
	}
	r.accepted++
	for _, c := range d.Content {
		r.resources[d.Patient+" "+string(c.Ref())] = c
	}
	return connector.Receipt{}, nil
}

// under lists what is told under each heading, "patient | heading | words", sorted.
func (r *recorder) under() []string {
	var out []string
	for key, res := range r.resources {
		h := dataset.HeadingOf(res)
		if res.Type() == "Binary" || h == dataset.Demographics {
			continue
		}
		patient, _, _ := strings.Cut(key, " ")
		out = append(out, fmt.Sprintf("%s | %s | %s", patient, h, words(res)))
	}
	slices.Sort(out)
	return out
}

// words are what a resource says, in the order in which fact writes the same.
func words(r *fhir.Resource) string {
	t := func(paths ...string) string {
		var out []string
		for _, p := range paths {
			for v := range r.Value().All(p) {
				out = append(out, v.Str())
			}
		}
		return strings.Join(out, ", ")
	}
	switch r.Type() {
	case "Encounter":
		return t("class.code", "type.text", "period.start", "period.end", "reasonCode.text", "location.location.display", "participant.individual.display", "participant.type.text")
	case "Appointment":
		return t("status", "serviceType.text", "start", "end", "participant.actor.display")
	case "CarePlan":
		return t("title", "description", "period.start", "author.display", "contributor.display")
	case "Observation":
		return t("code.text", "valueQuantity.value", "valueQuantity.unit", "valueString", "effectiveDateTime", "performer.display")
	case "Flag":
		return t("status", "code.text", "period.start", "author.display", "meta.security.code")
	case "Consent":
		c := r.Concept("category")
		return t("status") + ", " + c.Text + ", " + t("dateTime", "performer.display")
	case "DeviceUseStatement":
		return t("device.display", "note.text", "timingDateTime", "source.display")
	case "Condition":
		return t("code.text", "onsetDateTime", "abatementDateTime", "note.text", "asserter.display")
	case "CareTeam":
		return t("name", "participant.member.display", "participant.role.text", "telecom.value")
	case "QuestionnaireResponse":
		return t("item.text", "item.answer.valueString")
	case "RelatedPerson":
		return t("name.text", "telecom.value") + " " + fmt.Sprint(strings.Contains(string(r.Raw()), `"code":"N"`))
	case "DocumentReference":
		return t("type.text", "description", "content.attachment.title", "author.display")
	}
	return "?" + string(r.Raw())
}

// facts lists what the cast says that a source holds, in the same words.
func facts(people []cast.Person, source string) []string {
	var out []string
	for _, p := range people {
		say := func(h dataset.Heading, parts ...string) {
			parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
			out = append(out, fmt.Sprintf("%s | %s | %s", p.LocalID(source), h, strings.Join(parts, ", ")))
		}
		for _, e := range p.EncountersAt(source) {
			say(dataset.Encounters, e.Class, e.Type, e.Start, e.End, e.Reason, e.Where, e.By, e.Role)
		}
		for _, a := range p.AppointmentsAt(source) {
			say(dataset.Appointments, a.Status, a.Type, a.Start, a.End, a.With, a.Where)
		}
		for _, d := range p.DocumentsAt(source) {
			say(dataset.Documents, d.Type, d.Title, d.Title, d.By)
		}
		for _, r := range p.RelationsAt(source) {
			say(dataset.PersonalContacts, r.Name, r.Phone+" "+fmt.Sprint(r.NextOfKin))
		}
		for _, f := range p.ItemsAt(source) {
			both := f.Display
			if f.Text != "" {
				both += " – " + f.Text
			}
			switch f.Heading {
			case dataset.CarePlans, dataset.EndOfLife, dataset.SocialCare:
				say(f.Heading, f.Display, f.Text, f.Date, f.By)
			case dataset.Observations, dataset.RemoteMonitoring:
				say(f.Heading, f.Display, f.Value, f.Unit, f.Date, f.By)
			case dataset.Legal:
				status := f.Status
				say(f.Heading, status, both, f.Date, f.By)
			case dataset.Alerts, dataset.Safeguarding:
				say(f.Heading, f.Status, both, f.Date, f.By, f.Label)
			case dataset.Devices:
				say(f.Heading, f.Display, f.Text, f.Date, f.By)
			case dataset.Maternity:
				say(f.Heading, f.Display, f.Date, f.End, f.Text, f.By)
			case dataset.ProfessionalContacts:
				say(f.Heading, f.Display, f.By, f.Role, f.Text)
			case dataset.AboutMe:
				say(f.Heading, f.Display, f.Text)
			default:
				say(f.Heading, "unheard of")
			}
		}
	}
	slices.Sort(out)
	return out
}

var today = time.Date(2026, 6, 17, 3, 0, 0, 0, time.UTC)

func everybody() []cast.Person { return append(cast.Dozen(today), cast.Generate(7, 200, today)...) }

type writer interface {
	Write(ctx context.Context) error
}

type setup struct {
	source string
	make   func(o options) (writer, error)
}

type options struct {
	drop, url, token string
	faults           *sim.Faults
}

var setups = map[string]setup{
	"community": {cast.Community, func(o options) (writer, error) {
		return community.New(community.Options{Drop: o.drop, URL: o.url, Token: o.token, Faults: o.faults, People: everybody()})
	}},
	"council": {cast.Council, func(o options) (writer, error) {
		return council.New(council.Options{Drop: o.drop, URL: o.url, Token: o.token, Faults: o.faults, People: everybody()})
	}},
}

func runner(t *testing.T, name string, o extract.Options) *extract.Runner {
	t.Helper()
	m, err := extract.Load("builtin:"+name, "")
	if err != nil {
		t.Fatal(err)
	}
	o.Source, o.Mapping = setups[name].source, m
	r, err := extract.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// sweep looks twice: a file must have stopped growing.
func sweep(t *testing.T, r *extract.Runner, door connector.Door) {
	t.Helper()
	for range 2 {
		if err := r.Sweep(t.Context(), door); err != nil {
			t.Fatal(err)
		}
	}
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("missing: %s", w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("unexpected: %s", g)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d facts arrived, %d are held", len(got), len(want))
	}
}

func TestEveryFactHeldArrivesUnderItsHeading(t *testing.T) {
	for name, s := range setups {
		t.Run(name, func(t *testing.T) {
			drop, door := t.TempDir(), newRecorder()
			r := runner(t, name, extract.Options{Drop: drop})
			w, err := s.make(options{drop: drop})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Write(t.Context()); err != nil {
				t.Fatal(err)
			}
			sweep(t, r, door)
			for _, d := range door.rejected {
				t.Errorf("rejected %s: %v", d.ID, d.Rejected)
			}
			for _, i := range door.warnings {
				t.Errorf("warning: %v", i)
			}
			same(t, door.under(), facts(everybody(), s.source))
			demographics(t, door, s.source)

			before := door.accepted
			if err := w.Write(t.Context()); err != nil { // the next night's extract says the same
				t.Fatal(err)
			}
			sweep(t, r, door)
			same(t, door.under(), facts(everybody(), s.source))
			if door.accepted == before {
				t.Error("the second night's extract was not looked at")
			}
		})
	}
}

// demographics checks that each person known to the source came with the number, name and birth date the cast gives them.
func demographics(t *testing.T, door *recorder, source string) {
	t.Helper()
	for _, p := range everybody() {
		if !p.At(source) {
			continue
		}
		id := p.LocalID(source)
		r := door.resources[id+" Patient/"+id]
		if r == nil {
			t.Errorf("%s is known at %s and did not arrive", p.Key, source)
			continue
		}
		ids := r.Identifiers()
		hasNHS := slices.ContainsFunc(ids, func(i fhir.Identifier) bool { return i.System == fhir.SystemNHSNumber && i.Value == p.NHS })
		if !hasNHS && p.NHS != "" || r.Text("birthDate") != p.Born || r.Text("name.family") != p.Family || r.Text("gender") != p.Sex ||
			r.Text("deceasedDateTime") != p.Died || (r.Text("meta.security.code") == "R") != p.Restricted || r.Text("address.postalCode") != p.Postcode {
			t.Errorf("%s came as %s", p.Key, r.Raw())
		}
	}
}

func TestDocumentsArriveWhole(t *testing.T) {
	drop, door := t.TempDir(), newRecorder()
	r := runner(t, "council", extract.Options{Drop: drop})
	w, _ := setups["council"].make(options{drop: drop})
	if err := w.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	sweep(t, r, door)
	seen := 0
	for _, res := range door.resources {
		if res.Type() != "DocumentReference" {
			continue
		}
		seen++
		binary := door.resources[strings.TrimPrefix(res.Text("subject.reference"), "Patient/")+" "+res.Text("content.attachment.url")]
		if binary == nil {
			t.Fatalf("%s has no Binary", res)
		}
		data, err := base64.StdEncoding.DecodeString(binary.Text("data"))
		if err != nil {
			t.Fatal(err)
		}
		onDisk, err := filepath.Glob(filepath.Join(drop, "documents", res.ID()+".*"))
		if err != nil || len(onDisk) != 1 {
			t.Fatalf("documents on disk: %v %v", onDisk, err)
		}
		want, _ := os.ReadFile(onDisk[0])
		if !bytes.Equal(data, want) || res.Text("content.attachment.size") != fmt.Sprint(len(want)) {
			t.Errorf("%s: the Binary is not what lies in the folder", res)
		}
		if got := binary.Text("contentType"); strings.HasSuffix(onDisk[0], ".pdf") != (got == "application/pdf") {
			t.Errorf("%s is %s", onDisk[0], got)
		}
	}
	if seen < 2 {
		t.Errorf("%d documents arrived", seen)
	}
}

func TestUploadedExtractsArriveToo(t *testing.T) {
	for name, s := range setups {
		t.Run(name, func(t *testing.T) {
			door := newRecorder()
			r := runner(t, name, extract.Options{Drop: t.TempDir(), Listen: "127.0.0.1:0", Token: "open sesame", Poll: time.Hour, Logger: slog.New(slog.DiscardHandler)})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- r.Run(ctx, door) }()
			<-r.Ready()
			url := "http://" + r.Addr().String()
			intruder, _ := s.make(options{url: url, token: "guess"})
			if err := intruder.Write(ctx); err == nil || !strings.Contains(err.Error(), "401") {
				t.Errorf("an upload with a wrong token: %v", err)
			}
			w, _ := s.make(options{url: url, token: "open sesame"})
			if err := w.Write(ctx); err != nil {
				t.Fatal(err)
			}
			same(t, door.under(), facts(everybody(), s.source)) // 201 means that all of it is durable
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFaultsOfANight(t *testing.T) {
	for name, s := range setups {
		for _, fault := range []sim.Fault{sim.FaultDown, sim.FaultSlow, sim.FaultGarbage, sim.FaultTruncated, sim.FaultWrongPatient} {
			t.Run(name+" "+string(fault), func(t *testing.T) {
				drop, door, faults := t.TempDir(), newRecorder(), new(sim.Faults)
				r := runner(t, name, extract.Options{Drop: drop})
				w, _ := s.make(options{drop: drop, faults: faults})
				faults.Set(fault, 0)
				if err := w.Write(t.Context()); err != nil {
					t.Fatal(err)
				}
				sweep(t, r, door)
				refused, _ := filepath.Glob(filepath.Join(drop, "failed", "*.report.txt"))
				first := firstAt(s.source)
				switch fault {
				case sim.FaultDown, sim.FaultSlow:
					if door.accepted+len(door.rejected) != 0 {
						t.Error("something came although the night's run did not happen")
					}
				case sim.FaultGarbage:
					if door.accepted != 0 || len(refused) < 9 {
						t.Errorf("%d deliveries of garbage accepted, %d files refused with a report", door.accepted, len(refused))
					}
				case sim.FaultTruncated:
					if door.accepted == 0 || len(door.rejected) == 0 {
						t.Errorf("of files cut in half %d rows were accepted and %d rejected", door.accepted, len(door.rejected))
					}
					same(t, within(door.under(), facts(everybody(), s.source)), door.under())
				case sim.FaultWrongPatient:
					others := 0
					for _, res := range door.resources {
						ids := res.Identifiers()
						if res.Type() == "Patient" && res.Text("birthDate") != first.Born && slices.ContainsFunc(ids, func(i fhir.Identifier) bool { return i.Value == first.NHS }) {
							others++
						}
					}
					if others == 0 {
						t.Error("nobody else's rows came under the first person's NHS number")
					}
				}
				faults.Set(sim.FaultNone, 0)
				if err := w.Write(t.Context()); err != nil {
					t.Fatal(err)
				}
				sweep(t, r, door)
				same(t, door.under(), facts(everybody(), s.source))
			})
		}
	}
}

func firstAt(source string) cast.Person {
	for _, p := range everybody() {
		if p.At(source) {
			return p
		}
	}
	return cast.Person{}
}

// within are those of got that are facts: of a cut file nothing may arrive changed.
func within(got, facts []string) []string {
	return slices.DeleteFunc(slices.Clone(got), func(s string) bool { return !slices.Contains(facts, s) })
}
