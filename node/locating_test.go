package node_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"tombolo/audit"
	"tombolo/connector"
	"tombolo/connector/nrl"
	"tombolo/fhir"
	"tombolo/node"
	"tombolo/pki"
	"tombolo/pki/pkitest"
	"tombolo/region"
)

// pointed is a region with a locator of its own.
const pointed = `
region: {id: north, name: North Shared Care Record}
organisations:
  - {ods: RX1, name: North Acute Trust, kind: acute}
  - {ods: Y05868, name: North Mental Health, kind: mental-health}
  - {ods: RYA, name: North Ambulance, kind: ambulance}
  - {ods: RZZ, name: Elsewhere, kind: other}
systems:
  - {id: pas, organisation: RX1, connector: api, gives: {demographics: push, encounters: push}}
  - {id: mh-epr, organisation: Y05868, connector: consumer, certificate: mh.example, role: mental-health}
  - {id: cad, organisation: RYA, connector: consumer, certificate: cad.example, role: paramedic}
locator:
  address: https://north.example
  applications:
    - {application: mh-epr, organisation: Y05868, produces: ["736253002", "887701000000100", "MAULR", "887181000000106"], consumes: ["736253002"]}
    - {application: mh-epr, organisation: RZZ, produces: ["736253002"], dates: true, loose: true}
    - {application: cad, organisation: RYA, consumes: all}
agreements:
  - {id: care, parties: [RX1, Y05868, RYA], purposes: [direct-care], headings: all, from: 2020-04-01}
`

// A locatorDoor is a running node's locator as a program with a certificate asks it.
type locatorDoor struct {
	n       *node.Node
	ca      *pkitest.Authority
	clients map[string]*http.Client
}

func openLocator(t *testing.T, text string, args ...any) *locatorDoor {
	t.Helper()
	now := time.Now()
	d := &locatorDoor{ca: pkitest.New(t, t.TempDir(), "authority", now), clients: map[string]*http.Client{}}
	server := d.ca.Issue("north.example", nil)
	d.n = run(t, node.Config{Region: regionOf(t, text, args...), Data: t.TempDir(), Listen: "127.0.0.1:0", Systems: "127.0.0.1:0",
		TLS: pki.Files{Cert: server.CertFile, Key: server.KeyFile, CA: filepath.Join(d.ca.Dir, "authority.pem"), CRL: d.ca.Revoke(now)}})
	dd := door{n: d.n, ca: d.ca}
	for _, name := range []string{"mh.example", "cad.example"} {
		d.clients[name] = dd.client(t, d.ca.Issue(name, nil))
	}
	return d
}

const aRequest = "60E0B220-8136-4CA5-AE46-1D97EF59D068"

// An nrlAsk is one request to a locator.
type nrlAsk struct {
	as, side, method, path, ods, body string
	headers                           map[string]string
}

// ask gives the status, the headers and the body of an answer.
func (d *locatorDoor) ask(t *testing.T, q nrlAsk) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), q.method, "https://"+d.n.SystemsAddr()+"/nrl/"+q.side+"/FHIR/R4"+q.path, strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(nrl.HeaderRequest, aRequest)
	req.Header.Set(nrl.HeaderODS, q.ods)
	for k, v := range q.headers {
		req.Header.Set(k, v)
		if v == "" {
			req.Header.Del(k)
		}
	}
	resp, err := d.clients[q.as].Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

// pointerBody is a right pointer, of which tests change parts. A nil takes a part away.
func pointerBody(t *testing.T, changes fhir.M) string {
	t.Helper()
	doc := map[string]any{}
	if err := json.Unmarshal([]byte(`{"resourceType":"DocumentReference","status":"current","docStatus":"final",
		"type":{"coding":[{"system":"http://snomed.info/sct","code":"736253002","display":"Mental health crisis plan"}]},
		"category":[{"coding":[{"system":"http://snomed.info/sct","code":"734163000","display":"Care plan"}]}],
		"subject":{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9999999999"}},
		"author":[{"identifier":{"system":"https://fhir.nhs.uk/Id/ods-organization-code","value":"Y05868"}}],
		"custodian":{"identifier":{"system":"https://fhir.nhs.uk/Id/ods-organization-code","value":"Y05868"}},
		"content":[{"attachment":{"contentType":"application/pdf","url":"ssp://p1.nhs.uk/MentalHealthCrisisPlan.pdf"},
			"format":{"system":"https://fhir.nhs.uk/England/CodeSystem/England-NRLFormatCode","code":"urn:nhs-ic:unstructured","display":"Unstructured Document"},
			"extension":[{"url":"https://fhir.nhs.uk/England/StructureDefinition/Extension-England-ContentStability","valueCodeableConcept":{"coding":[
				{"system":"https://fhir.nhs.uk/England/CodeSystem/England-NRLContentStability","code":"static","display":"Static"}]}}]}],
		"context":{"practiceSetting":{"coding":[{"system":"http://snomed.info/sct","code":"788002001","display":"Adult mental health service"}]},
			"related":[{"identifier":{"system":"https://fhir.nhs.uk/Id/nhsSpineASID","value":"200000000610"}}]}}`), &doc); err != nil {
		t.Fatal(err)
	}
	for path, v := range changes {
		setAt(doc, strings.Split(path, "."), v)
	}
	body, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func setAt(at any, path []string, v any) {
	switch x := at.(type) {
	case map[string]any:
		if len(path) > 1 {
			setAt(x[path[0]], path[1:], v)
		} else if v == nil {
			delete(x, path[0])
		} else {
			x[path[0]] = v
		}
	case []any:
		var i int
		_, _ = fmt.Sscan(path[0], &i)
		if len(path) == 1 {
			x[i] = v
			return
		}
		setAt(x[i], path[1:], v)
	}
}

// spineError is an error as the service writes it, byte for byte.
func spineError(code, detail, display, diagnostics string, expression ...string) string {
	s := "{\n  \"resourceType\": \"OperationOutcome\",\n  \"issue\": [\n    {\n      \"severity\": \"error\",\n      \"code\": \"" + code +
		"\",\n      \"details\": {\n        \"coding\": [\n          {\n            \"system\": \"https://fhir.nhs.uk/CodeSystem/Spine-ErrorOrWarningCode\",\n            \"code\": \"" + detail +
		"\",\n            \"display\": \"" + display + "\"\n          }\n        ]\n      }"
	if diagnostics != "" {
		s += ",\n      \"diagnostics\": \"" + diagnostics + "\""
	}
	for i, e := range expression {
		if i == 0 {
			s += ",\n      \"expression\": ["
		} else {
			s += ","
		}
		s += "\n        \"" + e + "\""
		if i == len(expression)-1 {
			s += "\n      ]"
		}
	}
	return s + "\n    }\n  ]\n}"
}

func ruleBroken(diagnostics string, expression ...string) string {
	return spineError("business-rule", "UNPROCESSABLE_ENTITY", "Unprocessable Entity", diagnostics, expression...)
}

func notWellFormed(diagnostics string, expression ...string) string {
	return spineError("invalid", "MESSAGE_NOT_WELL_FORMED", "Message not well formed", diagnostics, expression...)
}

func extensionOf(kind, code, display string) fhir.M {
	url := "https://fhir.nhs.uk/England/StructureDefinition/Extension-England-" + kind
	return fhir.M{"url": url, "valueCodeableConcept": fhir.M{"coding": []fhir.M{{"system": "https://fhir.nhs.uk/England/CodeSystem/England-NRL" + strings.TrimPrefix(kind, "NRL"), "code": code, "display": display}}}}
}

// Each mistake that a producer can make is told of in the national service's words, byte for byte.
func TestEveryMistakeOfAProducerIsToldOfByteForByte(t *testing.T) {
	d := openLocator(t, pointed)
	static := extensionOf("ContentStability", "static", "Static")
	type mistake struct {
		name    string
		changes fhir.M
		body    string
		status  int
		want    string
	}
	mechanism := func(v any) fhir.M {
		return fhir.M{"content.0.attachment.url": "https://example.org/my-doc.pdf", "context.related": nil, "content.0.extension": []any{v, static}}
	}
	html := func(code, display string) fhir.M {
		return fhir.M{"content.0.attachment": fhir.M{"contentType": "text/html", "url": "someContact.co.uk"}, "content.0.format.code": code, "content.0.format.display": display}
	}
	for _, c := range []mistake{
		{"no body", nil, " ", 400, notWellFormed("Request body could not be parsed (DocumentReference: Invalid JSON: it ends too early, at byte 1 (line 1); was it cut off?)", "DocumentReference")},
		{"custodian is somebody else", fhir.M{"custodian.identifier.value": "N0TANGY"}, "", 422, ruleBroken("The custodian of the provided DocumentReference does not match the expected ODS code for this organisation", "custodian.identifier.value")},
		{"check digit", fhir.M{"subject.identifier.value": "1234567890"}, "", 400, spineError("invalid", "INVALID_NHS_NUMBER", "Invalid NHS number", "Invalid NHS number", "subject.identifier.value")},
		{"not the NHS number's system", fhir.M{"subject.identifier.system": "https://fhir.nhs.uk/Id/not-nhs-number"}, "", 422, ruleBroken("Provided subject identifier system is not the NHS number system (expected 'https://fhir.nhs.uk/Id/nhs-number')", "subject.identifier.system")},
		{"not ODS", fhir.M{"custodian.identifier.system": "x"}, "", 422, ruleBroken("Provided custodian identifier system is not the ODS system (expected: 'https://fhir.nhs.uk/Id/ods-organization-code')", "custodian.identifier.system")},
		{"no custodian", fhir.M{"custodian": nil}, "", 422, ruleBroken("The required field 'custodian' is missing", "custodian")},
		{"a custodian without identifier", fhir.M{"custodian": fhir.M{"display": "x"}}, "", 422, ruleBroken("Custodian must have an identifier", "custodian.identifier")},
		{"a subject without identifier", fhir.M{"subject": fhir.M{"display": "x"}}, "", 422, ruleBroken("Subject must have an identifier", "subject.identifier")},
		{"author's characters", fhir.M{"author.0.identifier.value": "!!!!!"}, "", 422, ruleBroken("Invalid author value: '!!!!!' Author value must be alphanumeric", "author[0].identifier.value")},
		{"author's length", fhir.M{"author.0.identifier.value": "ABCDEFGHIJKLM"}, "", 422, ruleBroken("Invalid author value: 'ABCDEFGHIJKLM' Author value must be less than 13 characters", "author[0].identifier.value")},
		{"author's system", fhir.M{"author.0.identifier.system": "ddddd"}, "", 422, ruleBroken("Invalid author system: 'ddddd' Author system must be 'https://fhir.nhs.uk/Id/ods-organization-code'", "author[0].identifier.system")},
		{"status", fhir.M{"status": "invalid"}, "", 400, notWellFormed("Request body could not be parsed (status: String should match pattern '^current$')", "status")},
		{"docStatus", fhir.M{"docStatus": "invalid"}, "", 400, notWellFormed("Request body could not be parsed (docStatus: Input should be 'entered-in-error', 'amended', 'preliminary' or 'final')", "docStatus")},
		{"a type it may not register", fhir.M{"type.coding.0.code": "861421000000109", "type.coding.0.display": "End of life care coordination summary"}, "", 403,
			spineError("forbidden", "AUTHOR_CREDENTIALS_ERROR", "Author credentials error", "The type of the provided DocumentReference is not in the list of allowed types for this organisation", "type.coding[0].code")},
		{"a type's system", fhir.M{"type.coding.0.system": "http://invalidsystem.info/sct"}, "", 422, ruleBroken("Invalid type system: http://invalidsystem.info/sct Type system must be either 'http://snomed.info/sct', 'https://nicip.nhs.uk' or 'https://fhir.nhs.uk/England/CodeSystem/England-NRLRecordType'", "type.coding[0].system")},
		{"a type's code", fhir.M{"type.coding.0.code": "invalid"}, "", 422, ruleBroken("Invalid type code: invalid Type must be a member of the England-NRLRecordType value set (https://fhir.nhs.uk/England/CodeSystem/England-NRLRecordType)", "type.coding[0].code")},
		{"a type's display", fhir.M{"type.coding.0": fhir.M{"system": "https://nicip.nhs.uk", "code": "MAULR", "display": "Nonsense display"}, "category.0.coding.0": fhir.M{"system": "http://snomed.info/sct", "code": "721981007", "display": "Diagnostic studies report"}}, "", 422,
			ruleBroken("type code 'MAULR' must have a display value of 'MRA Upper Limb Rt'", "type.coding[0].display")},
		{"a category's display", fhir.M{"category.0.coding.0.display": "x"}, "", 422, ruleBroken("category code '734163000' must have a display value of 'Care plan'", "category[0].coding[0].display")},
		{"a category's code", fhir.M{"category.0.coding.0.code": "invalid"}, "", 422, ruleBroken("Invalid category code: invalid Category must be a member of the England-NRLRecordCategory value set (https://fhir.nhs.uk/England/CodeSystem/England-NRLRecordCategory)", "category[0].coding[0].code")},
		{"a category's system", fhir.M{"category.0.coding.0.system": "x"}, "", 422, ruleBroken("Invalid category system: x Category system must be 'http://snomed.info/sct'", "category[0].coding[0].system")},
		{"another type's category", fhir.M{"category.0.coding.0": fhir.M{"system": "http://snomed.info/sct", "code": "1102421000000108", "display": "Observations"}}, "", 422,
			ruleBroken("The Category code of the provided document 'http://snomed.info/sct|1102421000000108' must match the allowed category for pointer type 'http://snomed.info/sct|736253002' with a category value of 'http://snomed.info/sct|734163000'", "category.coding[0].code")},
		{"contact details as a document", html("urn:nhs-ic:unstructured", "Unstructured Document"), "", 422, ruleBroken("Invalid content format code: urn:nhs-ic:unstructured format code must be 'urn:nhs-ic:record-contact' for Contact details attachments.", "content[0].format.code")},
		{"a PDF as contact details", fhir.M{"content.0.format.code": "urn:nhs-ic:record-contact", "content.0.format.display": "Contact details (HTTP Unsecured)"}, "", 422, ruleBroken("Invalid content format code: urn:nhs-ic:record-contact format code must be 'urn:nhs-ic:unstructured' for Unstructured Document attachments.", "content[0].format.code")},
		{"a format's display", html("urn:nhs-ic:record-contact", "Unstructured Document"), "", 422, ruleBroken("Invalid display for format code 'urn:nhs-ic:record-contact'. Expected 'Contact details (HTTP Unsecured)'", "content[0].format.display")},
		{"contentType", fhir.M{"content.0.attachment.contentType": "application/invalid"}, "", 422, ruleBroken("Invalid contentType: application/invalid. Must be 'application/pdf', 'text/html' or 'application/fhir+json'", "content[0].attachment.contentType")},
		{"no content", fhir.M{"content": []any{}}, "", 400, notWellFormed("Request body could not be parsed (DocumentReference: Value error, The following fields are empty: content)", "DocumentReference")},
		{"no author", fhir.M{"author": []any{}}, "", 400, notWellFormed("Request body could not be parsed (DocumentReference: Value error, The following fields are empty: author)", "DocumentReference")},
		{"no extension", fhir.M{"content.0.extension": []any{}}, "", 400, notWellFormed("Request body could not be parsed (DocumentReference: Value error, The following fields are empty: content[0].extension)", "DocumentReference")},
		{"an empty contentType", fhir.M{"content.0.attachment.contentType": ""}, "", 400, notWellFormed("Request body could not be parsed (DocumentReference: Value error, The following fields are empty: content[0].attachment.contentType)", "DocumentReference")},
		{"an empty display", fhir.M{"context.practiceSetting.coding.0.display": "", "context.facilityType": fhir.M{"coding": []any{fhir.M{"system": " system", "code": "1234"}}}}, "", 400, notWellFormed("Request body could not be parsed (DocumentReference: Value error, The following fields are empty: context.practiceSetting.coding[0].display)", "DocumentReference")},
		{"blanks", fhir.M{"category.0.coding.0.display": "  "}, "", 400, notWellFormed(`Request body could not be parsed (category[0].coding[0].display: String should match pattern '[\\S]+[ \\r\\n\\t\\S]*')`, "category[0].coding[0].display")},
		{"several categories' codings", fhir.M{"category.0.coding": []any{fhir.M{"system": "a", "code": "b", "display": "c"}, fhir.M{"system": "a", "code": "b", "display": "c"}, fhir.M{"system": "a", "code": "b", "display": "c"}}}, "", 400,
			notWellFormed("Request body could not be parsed (category[0].coding: List should have at most 1 item after validation, not 3)", "category[0].coding")},
		{"something extra", fhir.M{"content.0.extra_field": "hello"}, "", 400, notWellFormed("Request body could not be parsed (content[0].extra_field: Extra inputs are not permitted)", "content[0].extra_field")},
		{"no attachment", fhir.M{"content.0.attachment": nil}, "", 400, notWellFormed("Request body could not be parsed (content[0].attachment: Field required)", "content[0].attachment")},
		{"no practice setting", fhir.M{"context.practiceSetting": nil}, "", 400, notWellFormed("Request body could not be parsed (context.practiceSetting: Field required)", "context.practiceSetting")},
		{"a practice setting without a coding", fhir.M{"context.practiceSetting": fhir.M{"text": "the clinic"}}, "", 400, notWellFormed("Request body could not be parsed (context.practiceSetting.coding: Field required)", "context.practiceSetting.coding")},
		{"a practice setting that is none", fhir.M{"context.practiceSetting.coding.0.code": "12345"}, "", 422, ruleBroken("Invalid practice setting code: 12345 Practice Setting coding must be a member of value set https://fhir.nhs.uk/England/ValueSet/England-PracticeSetting", "context.practiceSetting.coding[0].code")},
		{"a practice setting's system", fhir.M{"context.practiceSetting.coding.0.system": "x"}, "", 422, ruleBroken("Invalid practice setting system: x Practice Setting system must be 'http://snomed.info/sct'", "context.practiceSetting.coding[0].system")},
		{"the same member twice", nil, `{"resourceType":"DocumentReference","content":[{"attachment":{"url":"a","url":"b"},"attachment":{},"format":1,"format":2}]}`, 400,
			notWellFormed("Duplicate keys found in FHIR document: ['url', 'attachment', 'format']", "DocumentReference.content[0].attachment.url", "DocumentReference.content[0].attachment", "DocumentReference.content[0].format")},
		{"the proxy without a system", fhir.M{"context.related": nil}, "", 422, ruleBroken("Missing context.related. It must be provided and contain a single valid ASID identifier when content contains an SSP URL", "context.related")},
		{"related without a system", fhir.M{"context.related.0.identifier.system": "x"}, "", 422, ruleBroken("Missing ASID identifier. context.related must contain a single valid ASID identifier when content contains an SSP URL", "context.related")},
		{"a system's id", fhir.M{"context.related.0.identifier.value": "TEST"}, "", 422, ruleBroken("Invalid ASID value 'TEST'. A single ASID consisting of 12 digits can be provided in the context.related field.", "context.related[0].identifier.value")},
		{"two systems", fhir.M{"context.related": []any{fhir.M{"identifier": fhir.M{"system": "https://fhir.nhs.uk/Id/nhsSpineASID", "value": "200000000610"}}, fhir.M{"identifier": fhir.M{"system": "https://fhir.nhs.uk/Id/nhsSpineASID", "value": "200000000611"}}}}, "", 422,
			ruleBroken("Multiple ASID identifiers provided. Only a single valid ASID identifier can be provided in the context.related.", "context.related")},
		{"relatesTo's code", fhir.M{"relatesTo": []any{fhir.M{"code": "mates", "target": fhir.M{"identifier": fhir.M{"value": "a"}}}}}, "", 422, ruleBroken("Invalid relatesTo code: mates", "relatesTo[0].code")},
		{"replaces nothing", fhir.M{"relatesTo": []any{fhir.M{"code": "replaces", "target": fhir.M{"display": "x"}}}}, "", 422, ruleBroken("relatesTo code 'replaces' must have a target identifier", "relatesTo[0].target.identifier.value")},
		{"replaces another's", fhir.M{"relatesTo": []any{fhir.M{"code": "replaces", "target": fhir.M{"identifier": fhir.M{"value": "N0TANGY-1"}}}}}, "", 422, ruleBroken("The relatesTo target identifier value does not include the expected ODS code for this organisation", "relatesTo[0].target.identifier.value")},
		{"replaces what is not there", fhir.M{"relatesTo": []any{fhir.M{"code": "replaces", "target": fhir.M{"identifier": fhir.M{"value": "Y05868-1"}}}}}, "", 422, ruleBroken("The relatesTo target document does not exist", "relatesTo[0].target.identifier.value")},
		{"two mechanisms", fhir.M{"content.0.extension": []any{extensionOf("NRLRetrievalMechanism", "SSP", "Spine Secure Proxy"), extensionOf("NRLRetrievalMechanism", "SSP", "Spine Secure Proxy"), static}}, "", 422,
			ruleBroken("Invalid content retrieval extension: Extension must have one content retrieval extension, see: ('https://fhir.nhs.uk/England/ValueSet/England-NRLRetrievalMechanism')", "content[0].extension")},
		{"no stability", fhir.M{"content.0.extension": []any{extensionOf("NRLRetrievalMechanism", "SSP", "Spine Secure Proxy")}}, "", 422,
			ruleBroken("Invalid content extension: Extension must have one content stability extension, see: ('https://fhir.nhs.uk/England/ValueSet/England-NRLContentStability')", "content[0].extension")},
		{"a mechanism's display", mechanism(extensionOf("NRLRetrievalMechanism", "Direct", "Spine Secure Proxy")), "", 422, ruleBroken("Invalid content extension display: Spine Secure Proxy Expected display is 'Direct'", "content[0].extension[0].valueCodeableConcept.coding[0].display")},
		{"a mechanism's address", mechanism(fhir.M{"url": "https://fhir.nhs.uk/england/structuredefinition/extension-england-nrlretrievalmechanism", "valueCodeableConcept": extensionOf("NRLRetrievalMechanism", "Direct", "Direct")["valueCodeableConcept"]}), "", 400,
			spineError("invalid", "BAD_REQUEST", "Bad request", "Invalid content retrieval extension (content[0].extension[0].url: Input should be 'https://fhir.nhs.uk/England/StructureDefinition/Extension-England-NRLRetrievalMechanism', see: https://fhir.nhs.uk/England/ValueSet/England-NRLRetrievalMechanism)", "content[0].extension[0].url")},
		{"a mechanism's code", mechanism(extensionOf("NRLRetrievalMechanism", "INVALID_CODE", "Direct")), "", 400,
			spineError("invalid", "BAD_REQUEST", "Bad request", "Invalid content retrieval extension (content[0].extension[0].valueCodeableConcept.coding[0].code: Input should be 'SSP', 'Direct', 'LDR' or 'InContext', see: https://fhir.nhs.uk/England/ValueSet/England-NRLRetrievalMechanism)", "content[0].extension[0].valueCodeableConcept.coding[0].code")},
		{"a mechanism without display", mechanism(fhir.M{"url": "https://fhir.nhs.uk/England/StructureDefinition/Extension-England-NRLRetrievalMechanism", "valueCodeableConcept": fhir.M{"coding": []any{fhir.M{"system": "https://fhir.nhs.uk/England/CodeSystem/England-NRLRetrievalMechanism", "code": "Direct"}}}}), "", 400,
			spineError("invalid", "BAD_REQUEST", "Bad request", "Invalid content retrieval extension (content[0].extension[0].valueCodeableConcept.coding[0].display: Input should be 'Spine Secure Proxy', 'Direct', 'Large Document Retrieval' or 'Direct using In-Context', see: https://fhir.nhs.uk/England/ValueSet/England-NRLRetrievalMechanism)", "content[0].extension[0].valueCodeableConcept.coding[0].display")},
		{"a mechanism that says nothing", mechanism(fhir.M{"url": "https://fhir.nhs.uk/England/StructureDefinition/Extension-England-NRLRetrievalMechanism"}), "", 400,
			spineError("invalid", "BAD_REQUEST", "Bad request", "Invalid content retrieval extension (content[0].extension[0].valueCodeableConcept: Input should be a valid dictionary or instance of NRLRetrievalMechanismExtensionValueCodeableConcept, see: https://fhir.nhs.uk/England/ValueSet/England-NRLRetrievalMechanism)", "content[0].extension[0].valueCodeableConcept")},
		{"a stability's code", fhir.M{"content.0.extension": []any{extensionOf("ContentStability", "invalid", "Static")}}, "", 400,
			spineError("invalid", "BAD_REQUEST", "Bad request", "Invalid content stability extension (content[0].extension[0].valueCodeableConcept.coding[0].code: Input should be 'static' or 'dynamic', see: https://fhir.nhs.uk/England/ValueSet/England-NRLContentStability)", "content[0].extension[0].valueCodeableConcept.coding[0].code")},
		{"a stability's display", fhir.M{"content.0.extension": []any{extensionOf("ContentStability", "static", "Dynamic")}}, "", 422, ruleBroken("Invalid content extension display: Dynamic Extension display must be the same as code either 'Static' or 'Dynamic'", "content[0].extension[0].valueCodeableConcept.coding[0].display")},
		// What the specification demands and the service lets pass.
		{"an NHS number in the address", fhir.M{"content.0.attachment.url": "ssp://p1.nhs.uk/plans/999%20999-9999"}, "", 422, ruleBroken("The url of an attachment must not hold an NHS number or anything else that tells who the patient is", "content[0].attachment.url")},
		{"the proxy by https", fhir.M{"content.0.attachment.url": "https://p1.nhs.uk/plan.pdf", "content.0.extension": []any{extensionOf("NRLRetrievalMechanism", "SSP", "Spine Secure Proxy"), static}}, "", 422, ruleBroken("Content that is retrieved by the Spine Secure Proxy must have a url that begins with 'ssp://'", "content[0].attachment.url")},
		{"ssp without the proxy", fhir.M{"content.0.extension": []any{extensionOf("NRLRetrievalMechanism", "Direct", "Direct"), static}}, "", 422, ruleBroken("A url that begins with 'ssp://' is retrieved by the Spine Secure Proxy, and not by 'Direct'", "content[0].attachment.url")},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := c.body
			if body == "" {
				body = pointerBody(t, c.changes)
			}
			status, _, got := d.ask(t, nrlAsk{as: "mh.example", side: "producer", method: "POST", path: "/DocumentReference", ods: "Y05868", body: body})
			if status != c.status || got != c.want {
				t.Errorf("%d %s\nwant %d %s", status, got, c.status, c.want)
			}
			published(t, got, "OperationOutcome")
		})
	}
	if counts, err := d.n.Registry.Counts(t.Context()); err != nil || len(counts) > 0 {
		t.Errorf("pointers that were refused were kept: %v (%v)", counts, err)
	}
}

// What the gateway before the service checks, and what it answers.
func TestWhoMayAskTheLocatorAtAll(t *testing.T) {
	d := openLocator(t, pointed)
	q := nrlAsk{as: "cad.example", side: "consumer", method: "POST", path: "/DocumentReference/_search", ods: "RYA", body: `{"subject:identifier":"https://fhir.nhs.uk/Id/nhs-number|9999999999"}`}
	for name, c := range map[string]struct {
		change func(*nrlAsk)
		status int
		want   string
	}{
		"no organisation":         {func(q *nrlAsk) { q.ods = "" }, 400, spineError("required", "PRECONDITION_FAILED", "Precondition failed", "The NHSD-End-User-Organisation-ODS header is missing or invalid")},
		"no request id":           {func(q *nrlAsk) { q.headers = map[string]string{nrl.HeaderRequest: ""} }, 400, spineError("invalid", "MISSING_OR_INVALID_HEADER", "There is a required header missing or invalid", "The X-Request-Id header is missing or invalid")},
		"a request id of no form": {func(q *nrlAsk) { q.headers = map[string]string{nrl.HeaderRequest: "17"} }, 400, spineError("invalid", "MISSING_OR_INVALID_HEADER", "There is a required header missing or invalid", "The X-Request-Id header is missing or invalid")},
		"no permission for it":    {func(q *nrlAsk) { q.ods = "RX1" }, 403, spineError("forbidden", "ACCESS DENIED", "Access has been denied to process this request", "Your organisation 'RX1' does not have permission to access this resource. Contact the onboarding team.")},
		"not on this side":        {func(q *nrlAsk) { q.side = "producer" }, 403, spineError("forbidden", "ACCESS DENIED", "Access has been denied to process this request", "Your organisation 'RYA' does not have permission to access this resource. Contact the onboarding team.")},
		"a token that is none":    {func(q *nrlAsk) { q.headers = map[string]string{"Authorization": "Bearer nobody"} }, 401, spineError("forbidden", "ACCESS_DENIED", "Access has been denied to process this request", "You are not authorized to access this resource.")},
		"HEAD":                    {func(q *nrlAsk) { q.method, q.path, q.body = "HEAD", "/DocumentReference", "" }, 405, ""},
		"a number of three digits": {func(q *nrlAsk) { q.body = `{"subject:identifier":"https://fhir.nhs.uk/Id/nhs-number|123"}` }, 400,
			spineError("invalid", "INVALID_NHS_NUMBER", "Invalid NHS number", "A valid NHS number is required to search for document references", "subject:identifier")},
		"a type that there is not": {func(q *nrlAsk) {
			q.method, q.body, q.path = "GET", "", "/DocumentReference?subject:identifier=https://fhir.nhs.uk/Id/nhs-number%7C9999999999&type=http://incorrect.info/sct%7C736253002"
		}, 400, spineError("code-invalid", "INVALID_CODE_SYSTEM", "Invalid code system", "Invalid query parameter (The provided type does not match the allowed types for this organisation)", "type")},
		"a category that there is not": {func(q *nrlAsk) {
			q.method, q.body, q.path = "GET", "", "/DocumentReference?subject:identifier=https://fhir.nhs.uk/Id/nhs-number%7C9999999999&category=http://snomed.info/sct%7C734163000,http://snomed.info/sct%7Cinvalid"
		}, 400, spineError("code-invalid", "INVALID_CODE_SYSTEM", "Invalid code system", "Invalid query parameter (The provided category is not valid)", "category")},
		"a parameter too many": {func(q *nrlAsk) {
			q.method, q.body, q.path = "GET", "", "/DocumentReference?subject:identifier=https://fhir.nhs.uk/Id/nhs-number%7C9999999999&extra=parameter"
		}, 400, spineError("invalid", "INVALID_PARAMETER", "Invalid parameter", "Invalid query parameter (extra: Extra inputs are not permitted)", "extra")},
		"nobody": {func(q *nrlAsk) { q.method, q.body, q.path = "GET", "", "/DocumentReference" }, 400, spineError("invalid", "INVALID_PARAMETER", "Invalid parameter", "Invalid query parameter (subject:identifier: Field required)", "subject:identifier")},
		"a pointer that is not there": {func(q *nrlAsk) { q.method, q.body, q.path = "GET", "", "/DocumentReference/Y05868-17" }, 404,
			spineError("not-found", "NO_RECORD_FOUND", "No record found", "The requested DocumentReference could not be found")},
	} {
		t.Run(name, func(t *testing.T) {
			q := q
			c.change(&q)
			status, h, got := d.ask(t, q)
			if status != c.status || got != c.want {
				t.Errorf("%d %s\nwant %d %s", status, got, c.status, c.want)
			}
			if q.headers == nil && h.Get("X-Request-Id") != aRequest {
				t.Errorf("the request's id is not mirrored: %v", h)
			}
			if q.method == "HEAD" && h.Get("Allow") != "GET" {
				t.Errorf("Allow: %s", h.Get("Allow"))
			}
			if got != "" {
				published(t, got, "OperationOutcome")
			}
		})
	}
}

func told(t *testing.T, body string) (total int, ids []string, links map[string]string) {
	t.Helper()
	var b struct {
		Total int `json:"total"`
		Link  []struct{ Relation, URL string }
		Entry []struct {
			Resource struct{ ID string }
		}
	}
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	links = map[string]string{}
	for _, l := range b.Link {
		links[l.Relation] = l.URL
	}
	for _, e := range b.Entry {
		ids = append(ids, e.Resource.ID)
	}
	return b.Total, ids, links
}

// The life of a pointer: registered, found, read, changed, replaced, taken away.
func TestTheLifeOfARegisteredPointer(t *testing.T) {
	d := openLocator(t, pointed)
	produce := func(method, path, body string) (int, http.Header, string) {
		return d.ask(t, nrlAsk{as: "mh.example", side: "producer", method: method, path: path, ods: "Y05868", body: body, headers: map[string]string{nrl.HeaderCorrelation: "c-" + method + path}})
	}
	consume := func(body string) (int, []string, map[string]string) {
		status, _, got := d.ask(t, nrlAsk{as: "cad.example", side: "consumer", method: "POST", path: "/DocumentReference/_search", ods: "RYA", body: body})
		if status != 200 {
			t.Fatalf("%d %s", status, got)
		}
		published(t, got, "Bundle")
		return told(t, got)
	}
	about := `{"subject:identifier":"https://fhir.nhs.uk/Id/nhs-number|9999999999"}`

	status, h, body := produce("POST", "/DocumentReference", pointerBody(t, fhir.M{"date": "2020-01-01T00:00:00Z"}))
	location := h.Get("Location")
	if status != 201 || !strings.Contains(body, `"code": "RESOURCE_CREATED"`) || !regexp.MustCompile(`^/DocumentReference/Y05868-[0-9a-f-]{36}$`).MatchString(location) || h.Get("X-Correlation-Id") != "c-POST/DocumentReference" {
		t.Fatalf("%d %v %s", status, h, body)
	}
	published(t, body, "OperationOutcome")
	if _, again, _ := produce("POST", "/DocumentReference", pointerBody(t, fhir.M{"date": "2020-01-01T00:00:00Z"})); again.Get("Location") != location {
		t.Errorf("the same request again made another pointer: %s", again.Get("Location"))
	}
	id := strings.TrimPrefix(location, "/DocumentReference/")
	if total, ids, links := consume(about); total != 1 || !slices.Equal(ids, []string{id}) || links["self"] != "https://north.example/nrl/consumer/FHIR/R4/DocumentReference?subject:identifier=https://fhir.nhs.uk/Id/nhs-number|9999999999" {
		t.Errorf("found %d %v %v", total, ids, links)
	}
	if total, ids, links := consume(about[:len(about)-1] + `,"_summary":"count"}`); total != 1 || ids != nil || !strings.HasSuffix(links["self"], "&_summary=count") {
		t.Errorf("counted %d %v %v", total, ids, links)
	}
	for filter, want := range map[string]int{`"type":"http://snomed.info/sct|736253002,http://snomed.info/sct|887701000000100"`: 1, `"type":"http://snomed.info/sct|887701000000100"`: 0,
		`"category":"http://snomed.info/sct|734163000,http://snomed.info/sct|823651000000106"`: 1, `"custodian:identifier":"https://fhir.nhs.uk/Id/ods-organization-code|RX1"`: 0} {
		if total, _, _ := consume(about[:len(about)-1] + "," + filter + "}"); total != want {
			t.Errorf("%s: %d, want %d", filter, total, want)
		}
	}
	status, _, read := d.ask(t, nrlAsk{as: "cad.example", side: "consumer", method: "GET", path: location, ods: "RYA"})
	if status != 200 || strings.Contains(read, "2020-01-01") || !strings.Contains(read, `"lastUpdated"`) {
		t.Errorf("read: %d %s", status, read)
	}
	published(t, read, "DocumentReference")
	status, _, body = produce("GET", "/DocumentReference?subject:identifier=https://fhir.nhs.uk/Id/nhs-number%7C9999999999", "")
	if total, ids, _ := told(t, body); status != 200 || total != 1 || ids[0] != id {
		t.Errorf("the producer finds %s", body)
	}

	// Changed: but not what it is about.
	if status, _, body = produce("PUT", location, pointerBody(t, fhir.M{"id": id, "description": "the plan of May"})); status != 200 || !strings.Contains(body, "RESOURCE_UPDATED") {
		t.Errorf("update: %d %s", status, body)
	}
	for field, changes := range map[string]fhir.M{"subject": {"subject.identifier.value": "9000000017"}, "author": {"author.0.identifier.value": "RX1"}, "type": {"type.coding.0": fhir.M{"system": "http://snomed.info/sct", "code": "887701000000100", "display": "Emergency health care plan"}}} {
		changes["id"] = id
		if status, _, body = produce("PUT", location, pointerBody(t, changes)); status != 422 || body != ruleBroken("The field '"+field+"' is immutable and cannot be updated", field) {
			t.Errorf("%s: %d %s", field, status, body)
		}
	}
	if status, _, body = produce("PUT", location, pointerBody(t, fhir.M{"id": "Y05868-2"})); status != 422 || body != ruleBroken("The document id in the path does not match the document id in the body") {
		t.Errorf("another's id: %d %s", status, body)
	}

	// Replaced: the old one goes with it.
	replacing := fhir.M{"relatesTo": []any{fhir.M{"code": "replaces", "target": fhir.M{"type": "DocumentReference", "identifier": fhir.M{"value": id}}}}}
	wrong := fhir.M{"relatesTo": replacing["relatesTo"], "subject.identifier.value": "9000000017"}
	if status, _, body = produce("POST", "/DocumentReference", pointerBody(t, wrong)); status != 422 || body != ruleBroken("The relatesTo target document NHS number does not match the NHS number in the request", "relatesTo[0].target.identifier.value") {
		t.Errorf("%d %s", status, body)
	}
	status, h, body = produce("PUT", "/DocumentReference", pointerBody(t, fhir.M{"id": "Y05868-plan-2", "relatesTo": replacing["relatesTo"]}))
	if status != 201 || !strings.Contains(body, `"RESOURCE_SUPERSEDED"`) || h.Get("Location") != "/DocumentReference/Y05868-plan-2" {
		t.Errorf("%d %v %s", status, h, body)
	}
	if total, ids, _ := consume(about); total != 1 || ids[0] != "Y05868-plan-2" {
		t.Errorf("after it was replaced: %v", ids)
	}
	if status, _, body = produce("PUT", "/DocumentReference", pointerBody(t, fhir.M{"id": "Y05868-plan-2"})); status != 409 || body != spineError("conflict", "DUPLICATE_REJECTED", "Create would lead to creation of a duplicate resource", "") {
		t.Errorf("the same id again: %d %s", status, body)
	}
	if status, _, body = produce("PUT", "/DocumentReference", pointerBody(t, fhir.M{"id": "RX1-3"})); status != 422 || body != ruleBroken("The id of the provided DocumentReference does not include the expected ODS code for this organisation") {
		t.Errorf("another organisation's id: %d %s", status, body)
	}

	// Taken away: by whose it is.
	if status, _, body = d.ask(t, nrlAsk{as: "mh.example", side: "producer", method: "DELETE", path: "/DocumentReference/Y05868-plan-2", ods: "RZZ"}); status != 403 ||
		body != spineError("forbidden", "AUTHOR_CREDENTIALS_ERROR", "Author credentials error", "The requested DocumentReference cannot be deleted because it belongs to another organisation") {
		t.Errorf("%d %s", status, body)
	}
	if status, _, body = produce("DELETE", "/DocumentReference/Y05868-plan-2", ""); status != 200 || !strings.Contains(body, "The requested DocumentReference has been deleted") {
		t.Errorf("%d %s", status, body)
	}
	if status, _, body = produce("DELETE", "/DocumentReference/Y05868-plan-2", ""); status != 200 || !strings.Contains(body, "The requested DocumentReference could not be found") {
		t.Errorf("again: %d %s", status, body)
	}
	if total, _, _ := consume(about); total != 0 {
		t.Errorf("after all: %d", total)
	}
	// What was told and done is remembered, and its number stands where the audit log keeps numbers and nowhere else.
	kinds := map[string]int{}
	for e, err := range d.n.Audit.All(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		s, err := e.Summary()
		if err != nil {
			t.Fatal(err)
		}
		kinds[string(s.Kind)]++
		if s := string(e.Body); strings.Contains(s, "subject:identifier") {
			t.Errorf("the question itself stands in the audit log: %s", s)
		}
	}
	for kind, want := range map[string]int{"create": 2, "update": 1, "delete": 1} {
		if kinds[kind] != want {
			t.Errorf("%s is audited %d times, want %d (%v)", kind, kinds[kind], want, kinds)
		}
	}
	if kinds["search"] < 8 || kinds["read"] < 1 {
		t.Errorf("audited: %v", kinds)
	}
}

// Pages have twenty pointers, and their tokens tell nothing.
func TestPagesOfPointersAreOfTwenty(t *testing.T) {
	d := openLocator(t, pointed)
	image := fhir.M{"type.coding.0": fhir.M{"system": "https://nicip.nhs.uk", "code": "MAULR", "display": "MRA Upper Limb Rt"}, "category.0.coding.0": fhir.M{"system": "http://snomed.info/sct", "code": "721981007", "display": "Diagnostic studies report"}}
	for range 45 {
		if status, _, body := d.ask(t, nrlAsk{as: "mh.example", side: "producer", method: "POST", path: "/DocumentReference", ods: "Y05868", body: pointerBody(t, image)}); status != 201 {
			t.Fatal(body)
		}
	}
	seen := map[string]bool{}
	q := nrlAsk{as: "cad.example", side: "consumer", method: "GET", path: "/DocumentReference?subject:identifier=https://fhir.nhs.uk/Id/nhs-number%7C9999999999&type=https://nicip.nhs.uk%7CMAULR", ods: "RYA"}
	for _, want := range []int{20, 20, 5} {
		status, _, body := d.ask(t, q)
		total, ids, links := told(t, body)
		if status != 200 || total != 45 || len(ids) != want {
			t.Fatalf("%d: %d of %d", status, len(ids), total)
		}
		for _, id := range ids {
			if seen[id] {
				t.Errorf("%s comes twice", id)
			}
			seen[id] = true
		}
		next := links["next"]
		if want == 5 {
			if next != "" {
				t.Errorf("after the last page: %s", next)
			}
			break
		}
		if strings.Contains(next, "9999999999") || !strings.HasPrefix(next, "https://north.example/nrl/consumer/FHIR/R4/DocumentReference?next-page-token=") {
			t.Fatalf("next: %s", next)
		}
		_, token, _ := strings.Cut(next, "?")
		q.path = "/DocumentReference?" + token
		if status, _, _ := d.ask(t, nrlAsk{as: "mh.example", side: "consumer", method: "GET", path: q.path, ods: "Y05868"}); status != 400 {
			t.Errorf("another's token: %d", status)
		}
	}
	if len(seen) != 45 {
		t.Errorf("%d pointers in all", len(seen))
	}
}

// The example of the published API is taken as it stands.
func TestThePublishedExampleIsRegistered(t *testing.T) {
	s := openAPI(t, "producer")
	if s == nil {
		t.Skip("the published API is not here")
	}
	body, err := json.Marshal(s.at("components", "requestBodies", "DocumentReference", "content", "application/fhir+json;version=1", "example"))
	if err != nil {
		t.Fatal(err)
	}
	d := openLocator(t, pointed)
	if status, _, answer := d.ask(t, nrlAsk{as: "mh.example", side: "producer", method: "POST", path: "/DocumentReference", ods: "Y05868", body: string(body)}); status != 201 {
		t.Errorf("%d %s", status, answer)
	}
}

// Who may be told of a pointer is decided by agreement and by what the person has chosen, and somebody whose whereabouts must not be known has none.
func TestAPointerIsToldUnderPolicy(t *testing.T) {
	d := openLocator(t, pointed)
	const nhs = "9990000107"
	register := func(ods, number string) string {
		changes := fhir.M{"subject.identifier.value": number, "custodian.identifier.value": ods}
		status, h, body := d.ask(t, nrlAsk{as: "mh.example", side: "producer", method: "POST", path: "/DocumentReference", ods: ods, body: pointerBody(t, changes)})
		if status != 201 {
			t.Fatal(body)
		}
		return strings.TrimPrefix(h.Get("Location"), "/DocumentReference/")
	}
	agreed, foreign, stranger := register("Y05868", nhs), register("RZZ", nhs), register("Y05868", "9999999999")
	told := func(number string) []string {
		status, _, body := d.ask(t, nrlAsk{as: "cad.example", side: "consumer", method: "POST", path: "/DocumentReference/_search", ods: "RYA", body: `{"subject:identifier":"https://fhir.nhs.uk/Id/nhs-number|` + number + `"}`})
		_, ids, _ := told(t, body)
		if status != 200 {
			t.Fatal(body)
		}
		return ids
	}
	readable := func(id string) int {
		status, _, _ := d.ask(t, nrlAsk{as: "cad.example", side: "consumer", method: "GET", path: "/DocumentReference/" + id, ods: "RYA"})
		return status
	}
	if ids := told(nhs); !slices.Equal(ids, []string{agreed}) || readable(agreed) != 200 || readable(foreign) != 404 {
		t.Errorf("told of %v; want %s, and not %s, for which nothing was agreed", ids, agreed, foreign)
	}
	if ids := told("9999999999"); !slices.Equal(ids, []string{stranger}) {
		t.Errorf("of somebody whom nobody here knows: %v", ids)
	}
	// Their practice, hospital or team: each says where they are.
	accept(t, d.n, "p1", patientWith(nhs, fhir.M{}), "1")
	if ids := told(nhs); len(ids) != 1 {
		t.Errorf("known now: %v", ids)
	}
	accept(t, d.n, "p1", patientWith(nhs, fhir.M{"meta": fhir.M{"security": []fhir.Coding{{System: fhir.SystemConfidentiality, Code: "R"}}}}), "2")
	if ids := told(nhs); ids != nil || readable(agreed) != 404 {
		t.Errorf("restricted: told of %v, read %d", ids, readable(agreed))
	}
	if status, _, body := d.ask(t, nrlAsk{as: "mh.example", side: "producer", method: "GET", path: "/DocumentReference/" + agreed, ods: "Y05868"}); status != 200 {
		t.Errorf("whose it is still has it: %d %s", status, body)
	}
	accept(t, d.n, "p1", patientWith(nhs, fhir.M{"meta": fhir.M{"tag": []fhir.Coding{{System: "x", Code: "y"}}}}), "3")
	if ids := told(nhs); len(ids) != 1 {
		t.Errorf("no longer restricted: %v", ids)
	}
	// What was refused is remembered, with whose it was; of what is nothing's, that somebody asked.
	if status := readable("Y05868-9990000999"); status != 404 {
		t.Errorf("a pointer that is none: %d", status)
	}
	refused := map[string]int{}
	for e, err := range d.n.Audit.All(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		s, err := e.Summary()
		if err != nil {
			t.Fatal(err)
		}
		if s.Kind == audit.Denied {
			refused[fmt.Sprint(s.ODS, " ", s.PersonID != "", " ", s.Said("pointer"))]++
		}
		if strings.Contains(string(e.Body), "9990000999") {
			t.Error("what somebody typed for an id stands in the audit log")
		}
	}
	if want := map[string]int{"RYA false [" + foreign + "]": 1, "RYA true [" + agreed + "]": 1, "RYA false []": 1}; !maps.Equal(refused, want) {
		t.Errorf("refused reads are audited as %v, want %v", refused, want)
	}
	// Another number: what was registered under the old one is theirs.
	accept(t, d.n, "p1", patientWith("9990000204", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990000204"}, {Use: "old", System: fhir.SystemNHSNumber, Value: nhs}}}), "4")
	status, _, body := d.ask(t, nrlAsk{as: "cad.example", side: "consumer", method: "POST", path: "/DocumentReference/_search", ods: "RYA", body: `{"subject:identifier":"https://fhir.nhs.uk/Id/nhs-number|9990000204"}`})
	if status != 200 || strings.Contains(body, nhs) || !strings.Contains(body, agreed) {
		t.Errorf("under the new number: %d %s", status, body)
	}
}

// What an organisation registered that another has succeeded is the successor's: to find, to change, to take away; and whoever asks for the successor's is told of it.
func TestWhatWasRegisteredIsTheSuccessors(t *testing.T) {
	d := openLocator(t, "%s", strings.Replace(pointed, "{ods: RZZ, name: Elsewhere, kind: other}", "{ods: RZZ, name: Elsewhere, kind: other, succeeded_by: Y05868}", 1))
	produce := func(ods, method, path string, changes fhir.M) (int, string) {
		q := nrlAsk{as: "mh.example", side: "producer", method: method, path: path, ods: ods}
		if changes != nil {
			q.body = pointerBody(t, changes)
		}
		status, _, body := d.ask(t, q)
		return status, body
	}
	theirs := fhir.M{"id": "RZZ-1", "custodian.identifier.value": "RZZ"}
	if status, body := produce("RZZ", "PUT", "/DocumentReference", theirs); status != 201 {
		t.Fatal(status, body)
	}
	if status, body := produce("Y05868", "GET", "/DocumentReference/RZZ-1", nil); status != 200 || !strings.Contains(body, "RZZ-1") {
		t.Errorf("the successor reads it: %d %s", status, body)
	}
	if status, body := produce("Y05868", "PUT", "/DocumentReference/RZZ-1", fhir.M{"id": "RZZ-1", "custodian.identifier.value": "RZZ", "description": "of May"}); status != 200 {
		t.Errorf("the successor changes it: %d %s", status, body)
	}
	for custodian, want := range map[string]int{"Y05868": 1, "RZZ": 1, "RX1": 0} {
		status, _, body := d.ask(t, nrlAsk{as: "cad.example", side: "consumer", method: "POST", path: "/DocumentReference/_search", ods: "RYA",
			body: `{"subject:identifier":"https://fhir.nhs.uk/Id/nhs-number|9999999999","custodian:identifier":"https://fhir.nhs.uk/Id/ods-organization-code|` + custodian + `"}`})
		if total, _, _ := told(t, body); status != 200 || total != want {
			t.Errorf("of %s: %d pointers, want %d (%d)", custodian, total, want, status)
		}
	}
	if status, body := produce("RYA", "DELETE", "/DocumentReference/RZZ-1", nil); status == 200 {
		t.Errorf("another organisation takes it away: %d %s", status, body)
	}
	if status, body := produce("Y05868", "DELETE", "/DocumentReference/RZZ-1", nil); status != 200 || !strings.Contains(body, "has been deleted") {
		t.Errorf("the successor takes it away: %d %s", status, body)
	}
	if status, body := produce("Y05868", "PUT", "/DocumentReference", fhir.M{"id": "RZZ-2", "custodian.identifier.value": "RZZ"}); status != 422 {
		t.Errorf("nobody registers for an organisation that is no more but itself: %d %s", status, body)
	}
}

func patientWith(nhs string, more fhir.M) *fhir.Resource {
	m := fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: nhs}}, "name": []fhir.HumanName{{Family: "Taylor", Given: []string{"Ann"}}}, "birthDate": "1948-03-12"}
	for k, v := range more {
		m[k] = v
	}
	return fhir.New("Patient", "p1", m)
}

func accept(t *testing.T, n *node.Node, patient string, r *fhir.Resource, id string) {
	t.Helper()
	rec, err := n.Intake.Accept(t.Context(), connector.Delivery{Source: "pas", ID: id, Received: time.Now(), Raw: r.Raw(), Content: []*fhir.Resource{r}, Patient: patient, Map: "test/1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Await(t.Context(), rec.Seq); err != nil {
		t.Fatal(err)
	}
}

// published holds a body to the schema of the published API; nothing where the data is absent.
func published(t *testing.T, body, name string) {
	t.Helper()
	if spec := openAPI(t, "producer"); spec != nil {
		var v any
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		for _, wrong := range spec.check(map[string]any{"$ref": "#/components/schemas/" + name}, v, name) {
			t.Errorf("against the published API: %s", wrong)
		}
	}
}

// A spec is a published OpenAPI file.
type spec map[string]any

var openAPIs = map[string]spec{}

func openAPI(t *testing.T, side string) spec {
	t.Helper()
	if s, ok := openAPIs[side]; ok {
		return s
	}
	data, err := os.ReadFile(filepath.Join("..", "..", "shared", "data", "04-nhs-apis", "nrl-2026", side+".yaml"))
	if err != nil {
		t.Logf("not held to the published API: %v", err)
		openAPIs[side] = nil
		return nil
	}
	s := spec{}
	if err := yaml.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	openAPIs[side] = s
	return s
}

func (s spec) at(path ...string) any {
	var v any = map[string]any(s)
	for _, p := range path {
		v = v.(map[string]any)[p]
	}
	return v
}

// check is as much of JSON Schema as the published files use.
func (s spec) check(schema map[string]any, v any, at string) (wrong []string) {
	if ref, ok := schema["$ref"].(string); ok {
		return s.check(s.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...).(map[string]any), v, at)
	}
	for _, part := range items(schema["allOf"]) {
		wrong = append(wrong, s.check(part.(map[string]any), v, at)...)
	}
	if any := items(schema["oneOf"]); any != nil {
		if !slices.ContainsFunc(any, func(x interface{}) bool { return len(s.check(x.(map[string]interface{}), v, at)) == 0 }) {
			wrong = append(wrong, at+" is none of what it may be")
		}
	}
	switch schema["type"] {
	case "object":
		o, ok := v.(map[string]any)
		if !ok {
			return append(wrong, at+" is no object")
		}
		for _, r := range items(schema["required"]) {
			if _, ok := o[r.(string)]; !ok {
				wrong = append(wrong, at+" has no "+r.(string))
			}
		}
		properties, _ := schema["properties"].(map[string]any)
		for k, x := range o {
			if p, ok := properties[k].(map[string]any); ok {
				wrong = append(wrong, s.check(p, x, at+"."+k)...)
			}
		}
	case "array":
		list, ok := v.([]any)
		if !ok {
			return append(wrong, at+" is no list")
		}
		for i, x := range list {
			wrong = append(wrong, s.check(schema["items"].(map[string]any), x, fmt.Sprintf("%s[%d]", at, i))...)
		}
	case "string":
		text, ok := v.(string)
		if !ok {
			return append(wrong, at+" is no string")
		}
		if p, ok := schema["pattern"].(string); ok && !strings.Contains(p, "(?=") && !regexp.MustCompile(p).MatchString(text) {
			wrong = append(wrong, at+" does not match "+p)
		}
		if e := items(schema["enum"]); e != nil && !slices.Contains(e, any(text)) {
			wrong = append(wrong, fmt.Sprintf("%s: %q is none of %v", at, text, e))
		}
	}
	return wrong
}

func items(v any) []any { l, _ := v.([]any); return l }

// The region file's words for types and mechanisms are those of the locator.
func TestTheRegionFilesPointerTypesAreTheLocators(t *testing.T) {
	var codes []string
	for _, x := range nrl.Types {
		_, code, _ := strings.Cut(x.ID, "|")
		codes = append(codes, code)
	}
	if !slices.Equal(slices.Sorted(slices.Values(codes)), slices.Sorted(slices.Values(region.PointerTypes))) {
		t.Errorf("the file knows %v, the locator %v", region.PointerTypes, codes)
	}
	for i, m := range nrl.Mechanisms {
		if region.Mechanisms[i] != string(m) {
			t.Errorf("%s and %s", m, region.Mechanisms[i])
		}
	}
}
