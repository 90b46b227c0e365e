package node_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"tombolo/connector/nrl"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/node"
	"tombolo/sim/national"
)

// Whoever opens a record opens what a national pointer leads to from there: through the proxy, or in the system that holds it; audited before, and whoever may not open the
// record opens none of it.
func TestWhatAPointerLeadsToIsOpenedFromTheRecord(t *testing.T) {
	asked := 0
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if strings.Contains(r.RequestURI, "broken") {
			w.WriteHeader(500)
			return
		}
		w.Header().Set("Content-Type", "application/pdf")
		_, _ = io.WriteString(w, "%PDF-1.4 the plan")
	}))
	t.Cleanup(proxy.Close)
	l := national.New(national.Options{Token: "secret"})
	above := httptest.NewServer(l)
	t.Cleanup(above.Close)
	text := strings.Replace(upward, "locator:\n", "locator:\n  retrieval: {proxy: \""+proxy.URL+"\", asid: \"200000000999\", hosts: [\"*.rax.example\"]}\n", 1)
	n := run(t, node.Config{Region: regionOf(t, "%s", strings.Replace(text, "%s", above.URL, 1)), Data: t.TempDir(), Listen: "127.0.0.1:0", Secret: func(string) string { return "secret" }})
	const ann = "9990000107"
	deliver(t, n, "1", "p1", patientP("p1", ann, "Taylor", nil))
	register := func(id, typ, url string, m nrl.Mechanism) {
		f := nrl.Form{Custodian: "RAX", URL: url, Mechanism: m, Setting: fhir.Coding{System: fhir.SystemSNOMED, Code: "788002001", Display: "Adult mental health service"}}
		if m == nrl.SSP {
			f.ASID = "200000000610"
		}
		f.Type, _ = nrl.TypeNamed(typ)
		l.Register(nrl.Pointer{Resource: f.Make(ann, id).With("id", "RAX-"+id).Without("masterIdentifier")})
	}
	register("plan", "861421000000109", "ssp://p1.nhs.uk/plan.pdf", nrl.SSP)
	register("broken", "736373009", "ssp://p1.nhs.uk/broken.pdf", nrl.SSP)
	register("record", "887181000000106", "https://record.rax.example/launch/1", nrl.InContext)
	register("away", "887701000000100", "https://elsewhere.example/1", nrl.Direct)
	s, err := n.Access.As("medic")
	if err != nil {
		t.Fatal(err)
	}
	person := personOf(t, n, ann)
	rec, err := n.Gather.Record(t.Context(), s, person, gather.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	refs := map[string]fhir.Ref{}
	for _, h := range dataset.AllHeadings() {
		for _, e := range rec.Section(h).Entries {
			if _, id, ok := strings.Cut(e.Lead.Text("meta.source"), "#RAX-"); ok {
				refs[id] = e.Lead.Ref()
			}
		}
	}
	if len(refs) != 4 {
		t.Fatalf("pointers in the record: %v", refs)
	}
	follow := func(id, token string) (int, string, string) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+n.Addr()+"/record/"+person+"/document/"+refs[id].ID(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header.Get("Location") + resp.Header.Get("Content-Type"), string(body)
	}
	if status, kind, body := follow("plan", "test"); status != 200 || kind != "application/pdf" || body != "%PDF-1.4 the plan" {
		t.Errorf("the plan: %d %s %s", status, kind, body)
	}
	if status, to, _ := follow("record", "test"); status != http.StatusSeeOther || to != "https://record.rax.example/launch/1text/html; charset=utf-8" {
		t.Errorf("another region's record: %d %s", status, to)
	}
	for id, words := range map[string]string{"broken": "No answer just now", "away": "not opened from here"} {
		if status, _, body := follow(id, "test"); status < 400 || !strings.Contains(body, words) {
			t.Errorf("%s: %d %s", id, status, body)
		}
	}
	was := asked
	if status, _, _ := follow("plan", "wrong"); status == 200 || asked != was {
		t.Errorf("somebody who has not signed in: %d, and the proxy was asked %d times", status, asked-was)
	}
	followed, failed := 0, 0
	for e, err := range n.Audit.All(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		sum, err := e.Summary()
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(sum.What, "follows: a pointer") && sum.User == "medic" && sum.PersonID == person {
			followed++
		}
		if slices.ContainsFunc(sum.What, func(w string) bool { return strings.HasPrefix(w, "nothing was retrieved") }) {
			failed++
		}
	}
	if followed != 4 || failed != 2 {
		t.Errorf("audited: %d followed, %d of them for nothing", followed, failed)
	}
}
