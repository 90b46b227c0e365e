package gathered_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tombolo/fhir"
)

// notHere are the steps that ask for what these providers do not claim to be, and why.
var notHere = map[string]string{
	"gpc.registerpatient":                                "patients are not registered from here",
	"GPConnect-Appointment-1":                            "of the foundations' capability statement",
	"GPConnect-S":                                        "of the foundations' capability statement",
	"with legacy endReason":                              "nobody of the cast has an allergy with a legacy reason for its end",
	"data-awaiting-filing":                               "nobody of the cast has data awaiting filing",
	"medications parameter with a":                       "the period was taken out of the specification with 1.2.1",
	"prescriptions prescribed elsewhere should be valid": "nobody at this practice has medicines from elsewhere",
}

// resources are those of the answer's bundle of one type.
func (c *consumer) resources(typ string) (out []fhir.Value) {
	for r := range c.body.All("entry.resource") {
		if r.Text("resourceType") == typ {
			out = append(out, r)
		}
	}
	return out
}

// each makes a step that holds if it holds of each resource of a type.
func each(pattern, typ string, holds func(r fhir.Value) bool) stepDef {
	return step(pattern, func(c *consumer, _ string) error {
		for _, r := range c.resources(typ) {
			if !holds(r) {
				return fmt.Errorf("%s", r.Raw())
			}
		}
		return nil
	})
}

func ensure(ok bool, c *consumer) error {
	if !ok {
		return fmt.Errorf("HTTP %d %.600s", c.code, c.body.Raw())
	}
	return nil
}

func profiled(r fhir.Value) bool {
	return strings.HasPrefix(r.Text("meta.profile"), "https://fhir.nhs.uk/STU3/StructureDefinition/CareConnect-GPC-"+r.Text("resourceType"))
}

func withVersion(r fhir.Value) bool {
	return profiled(r) && r.Text("meta.versionId") != "" && r.Text("id") != ""
}

// leads reports whether a reference of the answer leads to a resource in it.
func (c *consumer) leads(ref string) bool {
	typ, id, _ := strings.Cut(ref, "/")
	return slices.ContainsFunc(c.resources(typ), func(r fhir.Value) bool { return r.Text("id") == id })
}

func (c *consumer) list(title string) (fhir.Value, bool) {
	for _, l := range c.resources("List") {
		if l.Text("title") == title && l.Text("code.coding.display") == title {
			return l, true
		}
	}
	return fhir.Value{}, false
}

// validList is what the specification says of every list that answers a query.
func (c *consumer) validList(l fhir.Value) error {
	entries := 0
	for ref := range l.All("entry.item.reference") {
		if entries++; !strings.HasPrefix(ref.Str(), "#") && !c.leads(ref.Str()) {
			return fmt.Errorf("%s leads nowhere", ref.Str())
		}
	}
	setting := false
	for x := range l.All("extension") {
		setting = setting || strings.HasSuffix(x.Text("url"), "ClinicalSetting-1") && x.Text("valueCodeableConcept.coding.code") == "1060971000000108"
	}
	empty := l.Text("emptyReason.coding.code") == "no-content-recorded" && strings.Contains(string(l.Raw()), "Information not available") ||
		slices.Contains([]string{"unavailable", "withheld"}, l.Text("emptyReason.coding.code")) && l.Text("note.text") != "" // where not every source said that there is none
	if !profiled(l) || l.Text("status") != "current" || l.Text("mode") != "snapshot" || !setting || !c.leads(l.Text("subject.reference")) || l.Text("date") == "" || (entries == 0) != empty {
		return fmt.Errorf("%s", l.Raw())
	}
	return nil
}

func (c *consumer) validLists() error {
	for _, l := range c.resources("List") {
		if err := c.validList(l); err != nil {
			return err
		}
	}
	return nil
}

// seen are the steps that look at an answer.
var seen = []stepDef{
	step(`the response status code should (?:be|indicate) "?(\w+)"?`, func(c *consumer, want string) error {
		return ensure(want == strconv.Itoa(c.code) || want == "success" && c.code == 200 || want == "failure" && c.code >= 400, c)
	}),
	step(`the response should be a OperationOutcome resource(?: with error code "(.*)")?`, func(c *consumer, code string) error {
		return ensure(c.body.Text("resourceType") == "OperationOutcome" && c.body.Text("meta.profile") == "https://fhir.nhs.uk/STU3/StructureDefinition/GPConnect-OperationOutcome-1" &&
			c.body.Text("issue.severity") == "error" && c.body.Text("issue.details.coding.display") != "" &&
			c.body.Text("issue.details.coding.system") == "https://fhir.nhs.uk/STU3/ValueSet/Spine-ErrorOrWarningCode-1" && (code == "" || c.body.Text("issue.details.coding.code") == code), c)
	}),
	step(`the response body should be FHIR JSON`, func(c *consumer, _ string) error {
		return ensure(c.answer.Header().Get("Content-Type") == "application/fhir+json; charset=utf-8" && c.body.Text("resourceType") != "", c)
	}),
	step(`the response should be gzip encoded`, func(c *consumer, _ string) error {
		return ensure(c.answer.Header().Get("Content-Encoding") == "gzip", c)
	}),
	step(`the Response Resource should be a (\w+)`, func(c *consumer, typ string) error { return ensure(c.body.Text("resourceType") == typ, c) }),
	step(`the CapabilityStatement version should match the GP Connect specification release`, func(c *consumer, _ string) error { return ensure(strings.HasPrefix(c.body.Text("version"), "1.2."), c) }),
	step(`the CapabilityStatement Software should be valid`, func(c *consumer, _ string) error {
		return ensure(c.body.Text("software.name") != "" && c.body.Text("software.version") != "", c)
	}),
	step(`the CapabilityStatement FHIR Version should be "(.*)"`, func(c *consumer, v string) error { return ensure(c.body.Text("fhirVersion") == v, c) }),
	step(`the CapabilityStatement REST Operations should contain "(.*)"`, func(c *consumer, op string) error { return ensure(c.body.Text("rest.operation.name") == op, c) }),
	step(`the CapabilityStatement Operation "gpc.getstructuredrecord" has url "(.*)/_history/.*"\s*`, func(c *consumer, url string) error { // we name no version of it
		return ensure(c.body.Text("rest.operation.definition.reference") == url, c)
	}),
	step(`the CapabilityStatement Profile should contain the correct reference and version history "(.*)"`, func(c *consumer, url string) error {
		url, _, _ = strings.Cut(url, "/_history/")
		return ensure(slices.ContainsFunc(slices.Collect(c.body.All("profile.reference")), func(v fhir.Value) bool { return v.Str() == url }), c)
	}),
	step(`Check the operation outcome returns the correct text and diagnotics "(.*)"`, func(c *consumer, name string) error {
		for _, o := range c.resources("OperationOutcome") {
			for is := range o.All("issue") {
				if strings.HasSuffix(is.Text("diagnostics"), name) && is.Text("details.text") == is.Text("diagnostics")+" is an unrecognised parameter" && is.Text("code") == "not-supported" &&
					is.Text("severity") == "warning" && is.Text("details.coding.code") == "NOT_IMPLEMENTED" && is.Text("details.coding.display") == "Not implemented" &&
					is.Text("details.coding.system") == "https://fhir.nhs.uk/STU3/CodeSystem/Spine-ErrorOrWarningCode-1" {
					return nil
				}
			}
		}
		return ensure(false, c)
	}),
	step(`Check the number of issues in the operation outcome "(.*)"`, func(c *consumer, n string) error {
		return ensure(len(c.resources("OperationOutcome")) == 1 && strconv.Itoa(strings.Count(string(c.resources("OperationOutcome")[0].Raw()), "is an unrecognised parameter")) == n, c)
	}),
	step(`the response should be a Bundle resource of type "(.*)"`, func(c *consumer, typ string) error {
		return ensure(c.body.Text("resourceType") == "Bundle" && c.body.Text("type") == typ, c)
	}),
	step(`the response meta profile should be for "structured"`, func(c *consumer, _ string) error {
		return ensure(c.body.Text("meta.profile") == "https://fhir.nhs.uk/STU3/StructureDefinition/GPConnect-StructuredRecord-Bundle-1", c)
	}),
	each(`the patient resource in the bundle should contain meta data profile and version id`, "Patient", withVersion),
	each(`if the response bundle contains a practitioner resource it should contain meta data profile and version id`, "Practitioner", withVersion),
	each(`if the response bundle contains an organization resource it should contain meta data profile and version id`, "Organization", withVersion),
	each(`the (?:Patient|Practitioner|Organization) Id should be valid`, "Patient", func(r fhir.Value) bool { return r.Text("id") != "" }),
	step(`the Bundle should be valid for patient "(.*)"`, func(c *consumer, p string) error {
		ps := c.resources("Patient")
		return ensure(len(ps) == 1 && ps[0].Text("identifier.system") == nhsSystem && ps[0].Text("identifier.value") == number(patients[p]) &&
			c.leads(ps[0].Text("managingOrganization.reference")) && c.leads(ps[0].Text("generalPractitioner.reference")), c)
	}),
	step(`the Bundle should contain "(.*)" lists`, func(c *consumer, n string) error { return ensure(strconv.Itoa(len(c.resources("List"))) == n, c) }),
	step(`the Bundle should contain a list with the title "(.*)"`, func(c *consumer, title string) error { _, ok := c.list(title); return ensure(ok, c) }),
	step(`the Bundle should not contain a list with the title "(.*)"`, func(c *consumer, title string) error { _, ok := c.list(title); return ensure(!ok, c) }),
	step(`the (?:Lists are valid for a patient .*|List of \w+ should be valid)`, func(c *consumer, _ string) error { return c.validLists() }),
	each(`the AllergyIntolerance should be valid`, "AllergyIntolerance", func(r fhir.Value) bool {
		return profiled(r) && r.Text("clinicalStatus") == "active" && r.Text("verificationStatus") == "unconfirmed" && r.Text("assertedDate") != "" && r.Text("patient.reference") != "" &&
			!r.Get("meta.versionId").Exists() && !r.Get("meta.lastUpdated").Exists()
	}),
	step(`the Bundle should contain the correct number of allergies`, func(c *consumer, _ string) error {
		l, _ := c.list("Allergies and adverse reactions")
		return ensure(len(slices.Collect(l.All("entry"))) == len(c.resources("AllergyIntolerance")), c)
	}),
	step(`the response should contain the recorder reference`, func(c *consumer, _ string) error {
		for _, a := range c.resources("AllergyIntolerance") {
			if !c.leads(a.Text("recorder.reference")) {
				return ensure(false, c)
			}
		}
		return ensure(len(c.resources("AllergyIntolerance")) > 0, c)
	}),
	each(`the Medications should be valid`, "Medication", func(r fhir.Value) bool { return profiled(r) && r.Text("code.coding.code") != "" }),
	step(`the Medication Statements should be valid`, func(c *consumer, _ string) error {
		for _, r := range c.resources("MedicationStatement") {
			if !profiled(r) || !c.leads(r.Text("medicationReference.reference")) || !c.leads(r.Text("basedOn.reference")) || !c.leads(r.Text("subject.reference")) ||
				r.Text("status") == "" || r.Text("taken") != "unk" || r.Text("dosage.text") == "" || r.Text("effectivePeriod.start") == "" {
				return fmt.Errorf("%s", r.Raw())
			}
		}
		return nil
	}),
	step(`the Medication Requests should be valid`, func(c *consumer, _ string) error {
		for _, r := range c.resources("MedicationRequest") {
			if !profiled(r) || !c.leads(r.Text("medicationReference.reference")) || r.Text("authoredOn") == "" || r.Text("intent") != "plan" && !c.leads(r.Text("basedOn.reference")) ||
				!strings.Contains(string(r.Raw()), "PrescriptionType-1") {
				return fmt.Errorf("%s", r.Raw())
			}
		}
		return nil
	}),
	each(`the Medication Requests should not contain any issues`, "MedicationRequest", func(r fhir.Value) bool { return r.Text("intent") == "plan" }),
	step(`there should only be one order request for acute prescriptions`, func(c *consumer, _ string) error {
		orders := map[string]int{}
		for _, r := range c.resources("MedicationRequest") {
			if r.Text("intent") == "order" && strings.Contains(string(r.Raw()), `"Acute"`) {
				if ref := r.Text("basedOn.reference"); orders[ref] > 0 {
					return fmt.Errorf("%s", r.Raw())
				}
				orders[r.Text("basedOn.reference")]++
			}
		}
		return nil
	}),
	step(`the response bundle should not contain any medications data`, func(c *consumer, _ string) error {
		return ensure(len(c.resources("List"))+len(c.resources("Medication"))+len(c.resources("MedicationRequest"))+len(c.resources("MedicationStatement")) == 0, c)
	}),
	step(`the MedicationStatement dates are with the default period with start "\w+" and end "\w+"`, func(*consumer, string) error { return nil }),
	step(`Check the list contains the following warning "(.*)"`, func(c *consumer, code string) error {
		return ensure(strings.Contains(string(c.body.Raw()), `"valueCode":"`+code+`"`), c)
	}),
	step(`Check the warning "\S+\s*" has associated note "(.*)"`, func(c *consumer, note string) error {
		before, _, _ := strings.Cut(note, "dd-Mmm-yyyy")
		return ensure(strings.Contains(string(c.body.Raw()), `"text":"`+before), c)
	}),
}
