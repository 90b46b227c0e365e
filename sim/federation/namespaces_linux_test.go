package federation_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tombolo/fhir"
	"tombolo/region"
	"tombolo/sim/lookout"
)

// The two nodes of this test are processes of the real program in network namespaces of their own, joined by one link that can be cut: ours at
// 10.77.0.1, the neighbour at 10.77.0.2. The test asks ours over a second link, from 10.78.0.1 to 10.78.0.2.

const oursFile = `
region: {id: severn, name: Severn}
organisations: [{ods: RX1, name: Severn Acute Trust, kind: acute}]
systems:
  - {id: rx1, organisation: RX1, product: EPR, connector: api, release: all, gives: {demographics: push, problems: push}}
agreements:
  - {id: direct-care, parties: [RX1], purposes: [direct-care], headings: all, from: 2026-04-01}
users:
  - {id: doctor, name: Dr Ade, role: hospital-doctor, organisation: RX1, token_sha256: %s}
neighbours:
  - {id: wye, name: Wye, kind: tombolo, address: "http://10.77.0.2:8080", token: WYE_TOKEN, deadline: 4s}
`

// Wye waits for a source that never answers, so that a link can be cut while it gathers.
const wyeFile = `
region: {id: wye, name: Wye}
organisations:
  - {ods: WD1, name: Wye District Hospital, kind: acute}
  - {ods: WD2, name: Wye Clinic, kind: community}
  - {ods: QSV, name: Severn, kind: other}
systems:
  - {id: wd1, organisation: WD1, product: EPR, connector: api, release: all, gives: {demographics: push, problems: push}}
  - {id: wd2, organisation: WD2, product: EPR, connector: fhirapi, address: "http://10.77.0.99/fhir", release: all, deadline: 1500ms, gives: {problems: live}}
agreements:
  - {id: direct-care, parties: [WD1, WD2, QSV], purposes: [direct-care], headings: all, from: 2026-04-01}
users:
  - {id: severn, name: Severn, role: neighbour, organisation: QSV, token_sha256: %s}
`

func TestTwoNodesWhoseLinkIsCutAndHealed(t *testing.T) {
	n := network(t)
	bin := filepath.Join(t.TempDir(), "tombolo")
	run(t, "go", "build", "-o", bin, "tombolo/cmd/tombolo")
	wye := n.node(t, bin, "w", "wye", fmt.Sprintf(wyeFile, digest("from-severn")), "wd1", "10.77.0.2:8080", "Wye")
	ours := n.node(t, bin, "s", "severn", fmt.Sprintf(oursFile, digest("doctor")), "rx1", "10.78.0.2:8080", "Ours")
	ours.await(t, "http://10.78.0.2:8080/readyz")
	time.Sleep(200 * time.Millisecond)
	_ = wye

	whole := n.ask(t)
	if !whole.has("Asthma, said by Ours") || !whole.has("Asthma, said by Wye") || whole.has("Wye did not answer") {
		t.Fatalf("with the link whole: %s", whole.body)
	}

	n.cut(t)
	began := time.Now()
	if a := n.ask(t); !a.has("said by Ours") || a.has("said by Wye") || !a.has("Wye did not answer within 4 s") || time.Since(began) > 10*time.Second {
		t.Errorf("with the link cut, after %s: %s", time.Since(began), a.body)
	}
	n.heal(t)
	if a := n.ask(t); !a.has("said by Ours") || !a.has("said by Wye") {
		t.Errorf("with the link healed: %s", a.body)
	}

	// Cut while the neighbour gathers, and not healed: what is ours comes, and the neighbour is named.
	asked := n.asking(t)
	time.Sleep(500 * time.Millisecond)
	n.cut(t)
	if a := <-asked; !a.has("said by Ours") || !a.has("Wye did not answer within 4 s") {
		t.Errorf("cut in the middle: %s", a.body)
	}
	n.heal(t)

	// Cut and healed while it gathers: the answer is late, and whole.
	asked = n.asking(t)
	time.Sleep(300 * time.Millisecond)
	n.cut(t)
	time.Sleep(500 * time.Millisecond)
	n.heal(t)
	if a := <-asked; !a.has("said by Ours") || !a.has("said by Wye") && !a.has("Wye did not answer within 4 s") {
		t.Errorf("cut and healed in the middle: %s", a.body)
	}
	if a := n.ask(t); !a.has("said by Ours") || !a.has("said by Wye") {
		t.Errorf("afterwards: %s", a.body)
	}
}

// twoNets is the two namespaces, s and w.
type twoNets struct {
	prefix string
	client *http.Client
}

// run gives what a program said.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func network(t *testing.T) *twoNets {
	t.Helper()
	n := &twoNets{prefix: fmt.Sprintf("tb%d", os.Getpid()%100000), client: &http.Client{Timeout: 30 * time.Second}}
	if _, err := exec.LookPath("ip"); err != nil || os.Getuid() != 0 || exec.Command("ip", "netns", "add", n.ns("s")).Run() != nil {
		t.Skip("skipped: network namespaces cannot be made here (that needs root, and the program ip)")
	}
	t.Cleanup(func() {
		_ = exec.Command("ip", "netns", "del", n.ns("s")).Run()
		_ = exec.Command("ip", "netns", "del", n.ns("w")).Run()
	})
	run(t, "ip", "netns", "add", n.ns("w"))
	run(t, "ip", "link", "add", n.prefix+"a", "netns", n.ns("s"), "type", "veth", "peer", "name", n.prefix+"b", "netns", n.ns("w"))
	run(t, "ip", "link", "add", n.prefix+"c", "type", "veth", "peer", "name", n.prefix+"d", "netns", n.ns("s"))
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", n.prefix+"c").Run() })
	for _, c := range [][]string{
		{"-n", n.ns("s"), "addr", "add", "10.77.0.1/24", "dev", n.prefix + "a"}, {"-n", n.ns("w"), "addr", "add", "10.77.0.2/24", "dev", n.prefix + "b"},
		{"-n", n.ns("s"), "addr", "add", "10.78.0.2/24", "dev", n.prefix + "d"}, {"addr", "add", "10.78.0.1/24", "dev", n.prefix + "c"},
		{"-n", n.ns("s"), "link", "set", n.prefix + "a", "up"}, {"-n", n.ns("w"), "link", "set", n.prefix + "b", "up"},
		{"-n", n.ns("s"), "link", "set", n.prefix + "d", "up"}, {"link", "set", n.prefix + "c", "up"},
		{"-n", n.ns("s"), "link", "set", "lo", "up"}, {"-n", n.ns("w"), "link", "set", "lo", "up"},
	} {
		run(t, "ip", c...)
	}
	return n
}

func (n *twoNets) ns(which string) string { return n.prefix + which }

func (n *twoNets) cut(t *testing.T) {
	t.Helper()
	run(t, "ip", "-n", n.ns("w"), "link", "set", n.prefix+"b", "down")
}

func (n *twoNets) heal(t *testing.T) {
	t.Helper()
	run(t, "ip", "-n", n.ns("w"), "link", "set", n.prefix+"b", "up")
}

type running struct{ log *bytes.Buffer }

// node imports one patient with one problem for a system and serves the region in a namespace.
func (n *twoNets) node(t *testing.T, bin, ns, id, file, system, listen, says string) *running {
	t.Helper()
	dir := t.TempDir()
	regionFile, data, bundle := filepath.Join(dir, id+".yaml"), filepath.Join(dir, "data"), filepath.Join(dir, "ann.json")
	content := fhir.M{"resourceType": "Bundle", "type": "collection", "entry": []fhir.M{
		{"resource": fhir.M{"resourceType": "Patient", "id": "p", "identifier": []fhir.Identifier{nhs}, "name": []fhir.HumanName{{Family: "Taylor", Given: []string{"Ann"}}}, "birthDate": "1948-03-12"}},
		{"resource": fhir.M{"resourceType": "Condition", "id": "c", "subject": fhir.Reference{Reference: "Patient/p"}, "code": fhir.CodeableConcept{Text: "Asthma, said by " + says},
			"clinicalStatus": fhir.Code("http://terminology.hl7.org/CodeSystem/condition-clinical", "active", "")}}}}
	text, err := json.Marshal(content)
	must(t, err)
	must(t, os.WriteFile(regionFile, []byte(file), 0o600))
	must(t, os.WriteFile(bundle, text, 0o600))
	parsed, _ := region.Parse(id+".yaml", []byte(file))
	watch := lookout.Over(t, lookout.Options{Region: parsed, Folder: data})
	seeded, err := fhir.Parse(text)
	must(t, err)
	watch.Seed(seeded)
	_, err = io.WriteString(watch.Stream(), run(t, bin, "import", "--region", regionFile, "--data", data, "--source", system, bundle))
	must(t, err)
	r := &running{log: &bytes.Buffer{}}
	cmd := exec.Command("ip", "netns", "exec", n.ns(ns), bin, "serve", "--region", regionFile, "--data", data, "--listen", listen)
	cmd.Env = append(os.Environ(), "WYE_TOKEN=from-severn")
	both := io.MultiWriter(r.log, watch.Stream())
	cmd.Stdout, cmd.Stderr = both, both
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", id, r.log)
		}
	})
	return r
}

func (r *running) await(t *testing.T, url string) {
	t.Helper()
	for range 300 {
		if resp, err := http.Get(url); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("the node did not come up")
}

type answered struct{ body string }

func (a answered) has(s string) bool { return strings.Contains(a.body, s) }

// ask gathers Ann's problems at our node.
func (n *twoNets) ask(t *testing.T) answered {
	t.Helper()
	return <-n.asking(t)
}

func (n *twoNets) asking(t *testing.T) <-chan answered {
	out := make(chan answered, 1)
	go func() {
		question := fhir.New("Parameters", "", fhir.M{"parameter": []fhir.M{{"name": "identifier", "valueIdentifier": nhs}, {"name": "heading", "valueCode": "problems"}}})
		req, err := http.NewRequest(http.MethodPost, "http://10.78.0.2:8080/fhir/$gather", bytes.NewReader(question.Raw()))
		if err != nil {
			out <- answered{err.Error()}
			return
		}
		req.Header.Set("Authorization", "Bearer doctor")
		req.Header.Set("Content-Type", "application/fhir+json")
		resp, err := n.client.Do(req)
		if err != nil {
			out <- answered{err.Error()}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			body = []byte(err.Error())
		}
		out <- answered{string(body)}
	}()
	return out
}
