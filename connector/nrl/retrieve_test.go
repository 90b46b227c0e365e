package nrl_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/connector/nrl"
	"tombolo/fhir"
)

var paramedic = connector.Requester{UserID: "medic", UserName: "A Paramedic", SDSRoleID: "UNK", OrganisationODS: "RYA", TraceID: "629ea9ba-a077-4d99-b289-7a9b19fd4e03"}

func leading(mechanism nrl.Mechanism, address string) *fhir.Resource {
	f := nrl.Form{Custodian: "RX1", URL: address, Mechanism: mechanism, Content: "pdf", ASID: "200000000610", Setting: fhir.Coding{System: fhir.SystemSNOMED, Code: "788002001"}}
	f.Type, _ = nrl.TypeNamed("736253002")
	return f.Make("9990000107", "p").Resource
}

// Through the proxy goes what NHS England publishes: the provider's address percent-encoded behind the proxy's own, both systems, who asks.
func TestADocumentIsFetchedThroughTheSpineProxy(t *testing.T) {
	failing := 1
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if want := "/https%3A%2F%2Fp1.nhs.uk%2Fplans%2Fda2b6e8a"; r.Method != "GET" || r.RequestURI != want {
			t.Errorf("%s %s, want %s", r.Method, r.RequestURI, want)
		}
		for k, want := range map[string]string{"Ssp-TraceID": paramedic.TraceID, "Ssp-From": "999000000999", "Ssp-To": "200000000610", "Ssp-InteractionID": "urn:nhs:names:services:nrl:DocumentReference.content.read"} {
			if got := r.Header.Get(k); got != want {
				t.Errorf("%s: %s, want %s", k, got, want)
			}
		}
		parts := strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), ".")
		claims, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil || len(parts) != 3 || parts[2] != "" {
			t.Errorf("the token: %v", parts)
		}
		v, err := fhir.ParseValue(claims)
		if err != nil || v.Text("requesting_system") != "https://fhir.nhs.uk/Id/accredited-system|999000000999" || v.Text("requesting_organization") != fhir.SystemODS+"|RYA" || v.Text("requesting_user") != "https://north.example/Id/user|medic" {
			t.Errorf("claims: %s", claims)
		}
		if failing > 0 {
			failing--
			w.WriteHeader(502)
			return
		}
		w.Header().Set("Content-Type", "application/pdf")
		_, _ = w.Write([]byte("%PDF-1.4 plan"))
	}))
	t.Cleanup(proxy.Close)
	x, err := nrl.NewRetriever(nrl.RetrieverOptions{Proxy: proxy.URL + "/", ASID: "999000000999", Issuer: func() string { return "https://north.example" }})
	if err != nil {
		t.Fatal(err)
	}
	got, err := x.Retrieve(t.Context(), paramedic, leading(nrl.SSP, "ssp://p1.nhs.uk/plans/da2b6e8a"))
	if err != nil || got.File == nil || got.File.Text("contentType") != "application/pdf" {
		t.Fatalf("%v %v", got, err)
	}
	if data, _ := fhir.DecodeBase64(got.File.Text("data")); string(data) != "%PDF-1.4 plan" {
		t.Errorf("%q", data)
	}
}

// Wherever an address leads, only places that the region names are gone to; what comes is held to what the pointer says.
func TestAPointerSendsNobodyElsewhere(t *testing.T) {
	strays := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strays++ }))
	t.Cleanup(elsewhere.Close)
	held := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (r.Header.Get("Authorization") == "Bearer large") != strings.HasPrefix(r.URL.Path, "/large") {
			t.Errorf("%s goes with %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		w.Header().Set("Content-Type", "application/pdf")
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		case "/page":
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<h1>Sign in</h1>"))
		case "/gone":
			w.WriteHeader(410)
		case "/refused":
			w.WriteHeader(403)
		case "/down":
			w.WriteHeader(503)
		case "/huge":
			_, _ = w.Write(make([]byte, 2000))
		case "/slow":
			<-r.Context().Done()
		default:
			_, _ = w.Write([]byte("%PDF-1.4"))
		}
	}))
	t.Cleanup(held.Close)
	x, err := nrl.NewRetriever(nrl.RetrieverOptions{Hosts: []string{strings.TrimPrefix(held.URL, "http://"), "*.ok.example"}, MaxBytes: 1000, Token: func(context.Context) (string, error) { return "large", nil }})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		mechanism nrl.Mechanism
		address   string
		want      fhir.IssueType
		launch    string
	}{
		"direct":                      {nrl.Direct, held.URL + "/plan", "", ""},
		"large":                       {nrl.LDR, held.URL + "/large/1", "", ""},
		"launched":                    {nrl.InContext, "https://record.ok.example/launch/1", "", "https://record.ok.example/launch/1"},
		"a host that is not named":    {nrl.Direct, elsewhere.URL + "/plan", fhir.NotSupported, ""},
		"launched at one":             {nrl.InContext, "https://ok.example.attacker.example/launch/1", fhir.NotSupported, ""},
		"the name without a part":     {nrl.InContext, "https://notok.example/1", fhir.NotSupported, ""},
		"without TLS":                 {nrl.InContext, "http://record.ok.example/1", fhir.NotSupported, ""},
		"another protocol":            {nrl.Direct, "file://record.ok.example/etc/passwd", fhir.NotSupported, ""},
		"with a credential":           {nrl.Direct, "https://a:b@record.ok.example/1", fhir.Structure, ""},
		"a number in it":              {nrl.Direct, held.URL + "/999%20000%200107", fhir.Structure, ""},
		"no address":                  {nrl.Direct, "see the ward", fhir.Structure, ""},
		"the proxy, without one":      {nrl.SSP, "ssp://p1.nhs.uk/1", fhir.NotSupported, ""},
		"sent elsewhere":              {nrl.Direct, held.URL + "/moved", fhir.NotSupported, ""},
		"a page where a PDF was said": {nrl.Direct, held.URL + "/page", fhir.Structure, ""},
		"gone":                        {nrl.Direct, held.URL + "/gone", fhir.NotFound, ""},
		"refused":                     {nrl.Direct, held.URL + "/refused", fhir.Suppressed, ""},
		"down":                        {nrl.Direct, held.URL + "/down", fhir.Transient, ""},
		"huge":                        {nrl.Direct, held.URL + "/huge", fhir.TooLong, ""},
		"slow":                        {nrl.Direct, held.URL + "/slow", fhir.Timeout, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if name == "slow" {
				ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
			}
			defer cancel()
			got, err := x.Retrieve(ctx, paramedic, leading(c.mechanism, c.address))
			switch {
			case c.want != "":
				if got.File != nil || got.Launch != "" || !fhir.Is(err, c.want) || strings.Contains(err.Error(), "9990000107") {
					t.Errorf("%v %v, want %s", got, err, c.want)
				}
			case err != nil || got.Launch != c.launch || (got.File == nil) != (c.launch != ""):
				t.Errorf("%v %v", got, err)
			}
		})
	}
	if strays > 0 {
		t.Errorf("a host that the region does not name was asked %d times", strays)
	}
}
