package hl7v2

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tombolo/fhir"
)

// said is what resources say, by type and path: "Patient.name.family" -> the values there.
type said map[string]map[string]bool

func (out said) add(path, value string) {
	if out[path] == nil {
		out[path] = map[string]bool{}
	}
	out[path][strings.TrimSpace(value)] = true
}

// take adds what JSON resources say.
func (out said) take(resources []json.RawMessage) {
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, c := range v {
				walk(path+"."+k, c)
			}
		case []any:
			for _, c := range v {
				walk(path, c)
			}
		default:
			out.add(path, fmt.Sprint(v))
		}
	}
	for _, raw := range resources {
		var r map[string]any
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if d.Decode(&r) == nil {
			typ := fmt.Sprint(r["resourceType"])
			delete(r, "resourceType")
			walk(typ, r)
		}
	}
}

// takeXML adds what the resources of a Bundle in XML say. FHIR R4 xml.html
func (out said) takeXML(data []byte) error {
	d := xml.NewDecoder(bytes.NewReader(data))
	var path []string
	for {
		tok, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch e := tok.(type) {
		case xml.StartElement:
			if e.Name.Local == "div" {
				if err := d.Skip(); err != nil {
					return err
				}
				continue
			}
			path = append(path, e.Name.Local)
			if len(path) < 4 || path[2] != "resource" { // Bundle, entry, resource
				continue
			}
			at := strings.Join(path[3:], ".")
			for _, a := range e.Attr {
				switch a.Name.Local {
				case "value":
					out.add(at, a.Value)
				case "url":
					out.add(at+".url", a.Value)
				}
			}
		case xml.EndElement:
			path = path[:len(path)-1]
		}
	}
}

func sampleBundle(t *testing.T, name string) said {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(sharedData(t, "05-hl7v2"), "v2-to-fhir-mappings", "samples", "fhir-bundles", name))
	if err != nil {
		t.Fatal(err)
	}
	out := said{}
	if data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")); data[0] == '<' { // also where the file is named .json
		if err := out.takeXML(data); err != nil {
			t.Fatal(err)
		}
		return out
	}
	var b struct {
		Entry []struct{ Resource json.RawMessage }
	}
	if err := json.Unmarshal(data, &b); err != nil {
		t.Fatal(err)
	}
	for _, e := range b.Entry {
		out.take([]json.RawMessage{e.Resource})
	}
	return out
}

// agree holds what a message gives to what a sample bundle says, but for differences that have a name: the longest path of the table that is the
// element's or stands above it. A difference that is none any more is told of.
func agree(t *testing.T, want said, ours []json.RawMessage, differ map[string]string) {
	t.Helper()
	got := said{}
	got.take(ours)
	used := map[string]bool{}
	same := 0
	for _, path := range slices.Sorted(maps.Keys(want)) {
		for _, v := range slices.Sorted(maps.Keys(want[path])) {
			if got[path][v] {
				same++
				continue
			}
			reason := ""
			for at := path; reason == "" && at != ""; {
				if reason = differ[at]; reason != "" {
					used[at] = true
				}
				if i := strings.LastIndexByte(at, '.'); i >= 0 {
					at = at[:i]
				} else {
					break
				}
			}
			if reason == "" {
				t.Errorf("%s is %.80q in the sample, and here %.200q", path, v, slices.Sorted(maps.Keys(got[path])))
			}
		}
	}
	for at := range differ {
		if !used[at] {
			t.Errorf("%s: no difference any more; take it out of the table", at)
		}
	}
	t.Logf("%d values are the same", same)
}

// mdmDiffers is where the guide's sample of a document message, which a converter made, is not what this program gives, and why.
var mdmDiffers = map[string]string{
	"MessageHeader":    "a message is a delivery, kept as it came; its header is no part of anybody's record",
	"Provenance":       "written at the door for whatever arrived, with the source, the mapping's version and the raw message's hash",
	"Organization":     "the sender is a system of the region file, and an assigning authority is the identifier's system",
	"Location":         "a place is named where it is referred to: PL has no id by which one Location could be told from another",
	"Practitioner":     "a person at work is named and numbered where they are referred to, by an identifier that any system resolves",
	"PractitionerRole": "as Practitioner",
	"Encounter":        "PV1 in a document message says in which visit it was written; what the visit is stands in ADT, and is not overwritten by a copy of some age",
	"Account":          "as Encounter: PID-18 makes an Account where ADT tells of accounts",
	"ServiceRequest":   "the order stands with the document as a copy; ORM, OMG and OML tell of orders",
	"Specimen":         "as ServiceRequest",
	"DiagnosticReport": "the sample's message is one document; its OBX are its text, not results by themselves",
	"Observation":      "as DiagnosticReport",

	"Patient.id":                             "ids are made of the source's number, so that the same patient has the same id in every message",
	"Patient.address.state":                  "XAD-4 is the county in the United Kingdom: Address.district, as UK Core has it",
	"Patient.identifier.assigner":            "the authority is the identifier's system",
	"Patient.identifier.system":              "PID-3.4 is a name, 1.1.1.1 no UUID: the authority is named until the region file gives its URI",
	"Patient.identifier.type.coding.display": "a code's words are terminology's to add",
	"Patient.telecom.system":                 "the sample's XTN has P where H should be; a number that says nothing of pagers is a telephone's",

	"DocumentReference.id":                             "as Patient.id",
	"DocumentReference.subject":                        "as Patient.id",
	"DocumentReference.masterIdentifier":               "TXA-12 stands under identifier, where the same search finds it",
	"DocumentReference.identifier":                     "a file name (TXA-16) identifies nothing beyond the system that gave it",
	"DocumentReference.author":                         "as Practitioner",
	"DocumentReference.authenticator":                  "as Practitioner",
	"DocumentReference.docStatus":                      "TXA-17 AU is authenticated (HL7 table 0271), and so final",
	"DocumentReference.meta":                           "meta.lastUpdated is when this server wrote it",
	"DocumentReference.context":                        "the guide's own table gives TXA-4 no element",
	"DocumentReference.type.coding.display":            "as Patient.identifier.type.coding.display",
	"DocumentReference.content.attachment.contentType": "the OBX of one text are one attachment, plain; the sample's PDF is the words <Base64 encoded> and no document",
	"DocumentReference.content.attachment.title":       "as contentType: the title is the document's, TXA-25",
	"DocumentReference.content.attachment.data":        "as contentType: the text stands in a Binary, which is fetched when it is opened",
	"DocumentReference.content.attachment.creation":    "a time without an offset is British, not UTC",
}

// The guide's own sample of a document message gives what its bundle says, or differs for a reason that is named.
func TestTheSampleDocumentMessageGivesWhatItsBundleSays(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(sharedData(t, "05-hl7v2"), "v2-to-fhir-mappings", "samples", "messages", "Message.hl7_MDM_T02.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var ours []json.RawMessage
	for _, r := range one(t, string(data), Options{Source: "sample"}).Content {
		ours = append(ours, r.Raw())
	}
	agree(t, sampleBundle(t, "FHIR_bundle.hl7_MDM_T02.xml"), ours, mdmDiffers)
}

// The guide's sample of an admission is a bundle without its message, so the message is made of what the bundle says, and gives that again.
func TestTheSampleAdmissionGivesWhatItsBundleSays(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(sharedData(t, "05-hl7v2"), "v2-to-fhir-mappings", "samples", "fhir-bundles", "FHIR_bundle.hl7_ADT_A01.json"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := fhir.ParseValue(data)
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]fhir.Value{}
	for e := range b.All("entry.resource") {
		if typ := e.Text("resourceType"); !of[typ].Exists() {
			of[typ] = e
		}
	}
	p, e, o := of["Patient"], of["Encounter"], of["Observation"]
	nth := func(v fhir.Value, path string, n int) string {
		for c := range v.All(path) {
			if n--; n < 0 {
				return c.Str()
			}
		}
		return ""
	}
	day := func(s string) string { return strings.ReplaceAll(s, "-", "") }
	var numbers, names, addresses []any
	for i := range p.All("identifier") {
		numbers = append(numbers, Comp(i.Text("value"), "", "", i.Text("assigner.display"), i.Text("type.coding.code"), "", day(i.Text("period.start")), day(i.Text("period.end"))))
	}
	for n := range p.All("name") {
		kind := map[string]string{"official": "L", "maiden": "M"}[n.Text("use")]
		names = append(names, Comp(n.Text("family"), nth(n, "given", 0), nth(n, "given", 1), nth(n, "suffix", 0), n.Text("prefix"), nth(n, "suffix", 1), kind,
			"", "", "", "", day(n.Text("period.start")), day(n.Text("period.end"))))
	}
	for a := range p.All("address") {
		addresses = append(addresses, Comp(nth(a, "line", 0), nth(a, "line", 1), a.Text("city"), a.Text("state"), a.Text("postalCode"), a.Text("country"),
			map[string]string{"home": "H"}[a.Text("use")], "", "", "", "", "", day(a.Text("period.start")), day(a.Text("period.end"))))
	}
	place := func(from int) any {
		return Comp(nth(e, "location.location.display", from+2), nth(e, "location.location.display", from), nth(e, "location.location.display", from+1))
	}
	var m Encoder
	m.Segment("MSH", Fields{3: of["MessageHeader"].Text("source.name"), 4: "SndFac", 7: "20150601135823", 9: Comp("ADT", "A01", "ADT_A01"), 10: "sample", 11: "P", 12: "2.5.1"})
	m.Segment("EVN", Fields{2: "20150601135823"})
	m.Segment("PID", Fields{3: Rep(numbers...), 5: Rep(names...), 7: day(p.Text("birthDate")[:10]), 8: strings.ToUpper(p.Text("gender")[:1]), 11: Rep(addresses...),
		13: Comp("", "NET", "Internet", p.Text("telecom.value")), 15: Comp(p.Text("communication.language.coding.code"), p.Text("communication.language.text"), "HL70296"),
		16: Comp(p.Text("maritalStatus.coding.code"), p.Text("maritalStatus.coding.display")), 24: "Y", 25: p.Text("multipleBirthInteger"), 30: "N"})
	m.Segment("PV1", Fields{2: "E", 3: place(0), 4: "E", 6: place(3), 10: Comp(e.Text("serviceType.coding.code"), e.Text("serviceType.text"), "HL70069"),
		16: e.Text("hospitalization.specialCourtesy.coding.code"), 19: Comp(e.Text("identifier.value"), "", "", strings.TrimSpace(e.Text("identifier.assigner.display")), "VN"),
		44: day(e.Text("period.start"))})
	m.Segment("PV2", Fields{3: Comp(e.Text("reasonCode.coding.code"), e.Text("reasonCode.text"), "SNM"), 25: "2"})
	m.Segment("OBX", Fields{1: "1", 2: "NM", 3: Comp(o.Text("code.coding.code"), o.Text("code.text"), "LN"), 5: string(o.Get("valueQuantity.value").Raw()), 11: "F"})
	m.Segment("AL1", Fields{1: "1", 2: "LA", 3: Comp("", of["AllergyIntolerance"].Text("code.text"))})
	var ours []json.RawMessage
	for _, r := range one(t, string(m.Bytes()), Options{Source: "sample"}).Content {
		ours = append(ours, r.Raw())
	}
	agree(t, sampleBundle(t, "FHIR_bundle.hl7_ADT_A01.json"), ours, adtDiffers)
}

// adtDiffers is where that bundle is not what this program gives, and why. Its converter wrote some components into the wrong elements.
var adtDiffers = map[string]string{
	"MessageHeader": "a message is a delivery, kept as it came; its header is no part of anybody's record",
	"Provenance":    "written at the door for whatever arrived",
	"Organization":  "the sender is a system of the region file",
	"Location":      "a place is named where it is referred to",
	"Practitioner":  "a person at work is named and numbered where they are referred to",
	"Coverage":      "care is not insured here: IN1 is counted among what no map takes, and kept",
	"RelatedPerson": "the sample has NK1 a component off: an assigning authority for a relationship, a code system for a prefix",

	"Patient.id":                             "ids are made of the source's number",
	"Patient.meta":                           "the sample was cut down to a summary",
	"Patient.contact":                        "as RelatedPerson",
	"Patient.address.state":                  "XAD-4 is the county in the United Kingdom: Address.district, as UK Core has it",
	"Patient.birthDate":                      "FHIR R4's date has no time of day; the sample's is not valid",
	"Patient.deceasedBoolean":                "PID-30 N is what many systems fill in where nothing is known, and would stand beside a later deceasedDateTime, of which FHIR allows one",
	"Patient.extension":                      "race and ethnicity are those of the United States; the sample's time of birth is not valid",
	"Patient.identifier.system":              "000-00-0000 names no authority in the message that the bundle gives",
	"Patient.identifier.assigner":            "the authority is the identifier's system",
	"Patient.identifier.type.coding.display": "a code's words are terminology's to add",
	"Patient.identifier.type.text":           "as display",
	"Patient.telecom":                        "the sample has a work telephone without a number",
	"Patient.communication.language":         "a language is of BCP 47, as FHIR R4 binds it",
	"Patient.maritalStatus.text":             "as identifier.type.coding.display",

	"Encounter.id":                        "ids are made of the source's number",
	"Encounter.meta":                      "the sample was cut down to a summary",
	"Encounter.account":                   "PID-18 makes an Account where ADT tells of accounts",
	"Encounter.identifier.assigner":       "the authority is the identifier's system",
	"Encounter.identifier.type":           "the code's words are table 0203's",
	"Encounter.location":                  "point of care, room and bed are one place, as a person says it",
	"Encounter.participant":               "the sample's participants have a role and are nobody",
	"Encounter.priority.text":             "the message made of the bundle has the code alone",
	"Encounter.hospitalization":           "the table is HL7's 0099, by its URI; the words are terminology's to add",
	"Encounter.reasonCode.coding.system":  "SNM is SNOMED, by the URI of SNOMED CT",
	"Encounter.serviceProvider":           "the region file says which organisation runs the system",
	"Encounter.serviceType.coding.system": "table 0069, by its URI",
	"Encounter.type.coding.display":       "a code's words are terminology's to add",
	"Encounter.type.text":                 "as display",

	"Observation.id":                 "ids are made of the source's number",
	"Observation.meta":               "the sample was cut down to a summary",
	"Observation.code.coding.system": "LN is LOINC, by its URI",
	"AllergyIntolerance.id":          "ids are made of the source's number",
	"AllergyIntolerance.meta":        "the sample was cut down to a summary",
	"AllergyIntolerance.type":        "LA is pollen: neither code is one of FHIR R4's in the sample",
	"AllergyIntolerance.category":    "as type",
	"AllergyIntolerance.code.coding": "a name without a code is text",
}
