package node_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tombolo/node"
)

// Profiles that the region file names are what $validate holds resources to, and what the CapabilityStatement says is supported.
func TestTheRegionFilesDefinitionsAreKnown(t *testing.T) {
	c := config(t, t.TempDir())
	c.Listen, c.Dev = "127.0.0.1:0", "dev"
	c.Region.Definitions = []string{"profiles"}
	folder := filepath.Join(c.Folder, "profiles")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := node.New(t.Context(), func() node.Config { c := c; c.Region.Definitions = []string{"elsewhere"}; return c }()); err == nil || !strings.Contains(err.Error(), "elsewhere") {
		t.Errorf("definitions that are not there: %v", err)
	}
	c.Region.Definitions = []string{"profiles"}
	if err := os.WriteFile(filepath.Join(folder, "named.json"), []byte(`{"resourceType":"StructureDefinition","url":"urn:example:named","name":"Named","status":"active","kind":"resource","abstract":false,
"type":"Patient","baseDefinition":"http://hl7.org/fhir/StructureDefinition/Patient","derivation":"constraint","differential":{"element":[{"id":"Patient.name","path":"Patient.name","min":1}]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	n := run(t, c)
	say := func(resp *http.Response, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		return string(body)
	}
	validate := "http://" + n.Addr() + "/fhir/Patient/$validate?profile=urn:example:named"
	for body, want := range map[string]string{
		`{"resourceType":"Patient","active":true}`:                `"Patient.name"`,
		`{"resourceType":"Patient","name":[{"family":"Taylor"}]}`: "and Named",
	} {
		if got := say(http.Post(validate, "application/fhir+json", strings.NewReader(body))); !strings.Contains(got, want) {
			t.Errorf("%s: %s", body, got)
		}
	}
	if got := say(http.Get("http://" + n.Addr() + "/fhir/metadata")); !strings.Contains(got, `"supportedProfile":["urn:example:named"]`) {
		t.Error("the CapabilityStatement does not name the profile")
	}
}
