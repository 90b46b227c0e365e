package directory_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tombolo/connector/ods"
	"tombolo/dataset"
	"tombolo/directory"
	"tombolo/fhir"
	"tombolo/kv/pebble"
	"tombolo/region"
	"tombolo/search"
	"tombolo/store"
)

func TestTheDirectorySaysWhatTheRegionFileSaysAndWhereODSDiffers(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/M85099"):
			_, _ = fmt.Fprint(w, `{"resourceType":"Organization","id":"M85099","active":false,"name":"OLD SURGERY"}`)
		case strings.HasSuffix(r.URL.Path, "$lookup"):
			_, _ = fmt.Fprint(w, `{"resourceType":"Parameters","parameter":[{"name":"property","part":[{"name":"code","valueCode":"successor"},{"name":"value","valueCode":"M85001"}]}]}`)
		case strings.HasSuffix(r.URL.Path, "/RX1"):
			_, _ = fmt.Fprint(w, `{"resourceType":"Organization","id":"RX1","active":true,"name":"SEVERN TRUST","address":[{"city":"SEVERNMOUTH"}]}`)
		default:
			w.WriteHeader(404)
		}
	}))
	defer srv.Close()
	engine, err := pebble.Open(pebble.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(store.Options{Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	client, err := ods.New(ods.Options{Address: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	r := &region.Region{ID: "severn", Organisations: []region.Organisation{{ODS: "RX1", Name: "Severn Acute Trust", Kind: region.KindAcute}, {ODS: "M85099", Name: "Old Surgery", Kind: region.KindGP}, {ODS: "ZZZ", Name: "Mistyped", Kind: region.KindOther}},
		Systems: []region.System{{ID: "pas", Organisation: "RX1", Connector: "fhirapi", Address: "https://pas.example/fhir", Release: region.Release{All: true}, Gives: map[dataset.Heading]region.Way{dataset.Allergies: region.Live}}}}
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	in := func() *region.Region { return r }
	d := directory.New(directory.Options{Store: db, Region: in, ODS: client, Now: func() time.Time { return now }})
	read := func(ref fhir.Ref) *fhir.Resource {
		t.Helper()
		res, err := d.Read(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	first := read("Organization/RX1")
	if first.Text("meta.versionId") != "1" || first.Text("meta.lastUpdated") != "2026-11-22T09:00:00.000Z" || first.Text("type.coding.code") != "acute" {
		t.Errorf("the trust is %s", first.Raw())
	}
	if s := read("HealthcareService/pas"); s.Text("providedBy.reference") != "Organization/RX1" || s.Text("characteristic.coding.code") != "allergies" || strings.Contains(string(s.Raw()), "pas.example") {
		t.Errorf("its service is %s", s.Raw())
	}
	if _, err := d.Read(t.Context(), "Endpoint/pas"); !fhir.Is(err, fhir.NotFound) {
		t.Errorf("where a source is asked is published without being meant to: %v", err)
	}
	now = now.Add(time.Hour)
	if err := d.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o := read("Organization/RX1"); o.Text("address.city") != "SEVERNMOUTH" || o.Text("meta.versionId") != "2" || o.Text("alias") != "SEVERN TRUST" {
		t.Errorf("with what ODS says the trust is %s", o.Raw())
	}
	if o := read("Organization/M85099"); o.Text("active") != "true" {
		t.Error("the region file's word is changed without anybody's having done so")
	}
	differs, err := d.Differences(t.Context())
	if err != nil || len(differs) != 2 || !strings.Contains(differs[0].Why, "succeeded_by: M85001") || !strings.Contains(differs[1].Why, "not known to ODS") {
		t.Errorf("what differs: %+v, %v", differs, err)
	}
	// The file is put right, and a system's endpoint is published: only what changed is newer.
	changed := *r
	changed.Organisations = append([]region.Organisation{}, r.Organisations[:2]...)
	changed.Organisations[1].SucceededBy = "M85001"
	changed.Organisations = append(changed.Organisations, region.Organisation{ODS: "M85001", Name: "Hilltop", Kind: region.KindGP})
	changed.Systems = append([]region.System{}, r.Systems...)
	changed.Systems[0].Options = map[string]string{"publish": "yes"}
	r = &changed
	now = now.Add(time.Hour)
	if o := read("Organization/M85099"); o.Text("active") != "false" || o.Text("extension.valueReference.reference") != "Organization/M85001" {
		t.Errorf("succeeded, the practice is %s", o.Raw())
	}
	q, _, err := search.Parse("Organization", map[string][]string{"_lastUpdated": {"gt2026-11-22T10:30:00Z"}}, true)
	if err != nil {
		t.Fatal(err)
	}
	page, err := d.Search(t.Context(), q)
	if err != nil || page.Total != 3 { // the closed one, the new one, and the trust, which now has an endpoint
		t.Errorf("changed since: %d, %v", page.Total, err)
	}
	if e := read("Endpoint/pas"); e.Text("address") != "https://pas.example/fhir" || e.Text("managingOrganization.reference") != "Organization/RX1" {
		t.Errorf("the endpoint is %s", e.Raw())
	}
	// Started again, nothing looks newer than it is.
	again := directory.New(directory.Options{Store: db, Region: in, Now: func() time.Time { return now.Add(24 * time.Hour) }})
	if o, err := again.Read(t.Context(), "HealthcareService/pas"); err != nil || o.Text("meta.lastUpdated") != "2026-11-22T11:00:00.000Z" {
		t.Errorf("after a restart: %v, %v", o, err)
	}
}
