package fhir

// subjectPaths are the elements by which a resource of each type stands in a patient's compartment, where they are not
// simply subject or patient. FHIR R4 compartmentdefinition-patient.html
var subjectPaths = map[string][]string{
	"Account": {"subject"}, "Appointment": {"participant.actor"}, "AppointmentResponse": {"actor"},
	"Coverage": {"beneficiary", "policyHolder"}, "EnrollmentRequest": {"candidate"}, "ResearchSubject": {"individual"},
	"SupplyRequest": {"deliverTo"}, "Task": {"for"}, "Binary": {"securityContext"}, "Group": {"member.entity"},
	"Person": {"link.target"}, "Schedule": {"actor"},
}

var usualSubjectPaths = []string{"subject", "patient"}

// nobodys are the types that are no patient's record by themselves, or need not be.
var nobodys = map[string]bool{
	"Organization": true, "Practitioner": true, "PractitionerRole": true, "Location": true, "HealthcareService": true,
	"OrganizationAffiliation": true, "Endpoint": true, "Medication": true, "MedicationKnowledge": true, "Substance": true,
	"Device": true, "DeviceDefinition": true, "Schedule": true, "Slot": true, "Binary": true, "Provenance": true, "Person": true,
	"Questionnaire": true, "PlanDefinition": true, "ActivityDefinition": true, "Library": true, "Measure": true,
	"CodeSystem": true, "ValueSet": true, "ConceptMap": true, "NamingSystem": true, "StructureDefinition": true,
	"SearchParameter": true, "CapabilityStatement": true, "OperationDefinition": true, "ImplementationGuide": true,
	"Subscription": true, "OperationOutcome": true, "Bundle": true, "Parameters": true, "Patient": true, "Group": true,
	"MessageHeader": true, "Basic": true, "AuditEvent": true, "ObservationDefinition": true, "SpecimenDefinition": true,
}

// ofSomebody are those of nobodys that may tell of somebody all the same, or of how a system is reached: without a patient nothing says who may see one.
var ofSomebody = map[string]bool{
	"Binary": true, "Provenance": true, "Person": true, "Subscription": true, "OperationOutcome": true, "Bundle": true, "Parameters": true, "Patient": true,
	"Group": true, "MessageHeader": true, "Basic": true, "AuditEvent": true,
}

// TellsOfNobody reports whether a resource of the type that names no patient tells nothing about anybody: an organisation, a medicine, a definition.
func TellsOfNobody(typ string) bool { return nobodys[typ] && !ofSomebody[typ] }

// NeedsPatient reports whether a resource of the type is somebody's record, so that one without a patient is wrong.
func NeedsPatient(typ string) bool { return IsType(typ) && !nobodys[typ] }

// Subjects are the references by which a resource says whose record it belongs to. Those that plainly point at something
// other than a patient (a practitioner who is an appointment's participant) are left out; "urn:uuid:" ones and those by
// identifier only are kept, for the caller to resolve.
//
// FHIR R4 compartmentdefinition-patient.html
func Subjects(r *Resource) []Reference {
	paths, ok := subjectPaths[r.Type()]
	if !ok {
		paths = usualSubjectPaths
	}
	var out []Reference
	for _, path := range paths {
		for v := range r.Value().All(path) {
			var ref Reference
			if !v.IsObject() || v.Decode(&ref) != nil || ref.Reference == "" && ref.Identifier == nil {
				continue
			}
			if t := typeInReference(ref); t == "" || t == "Patient" {
				out = append(out, ref)
			}
		}
	}
	return out
}

// typeInReference is the resource type that a reference names, "" if it does not say.
func typeInReference(ref Reference) string {
	if ref.Type != "" {
		return ref.Type
	}
	s := ref.Reference
	for i := 0; i < len(s); { // the last path segment that is a type: "https://host/fhir/Patient/1/_history/2"
		j := i
		for j < len(s) && s[j] != '/' && s[j] != '?' {
			j++
		}
		if IsType(s[i:j]) {
			return s[i:j]
		}
		i = j + 1
	}
	return ""
}

// MapReferences returns a copy of the resource in which every Reference object for which edit answers (replacement, true)
// is replaced by that JSON. edit gets the object and its reference text; all other bytes stay as they arrived.
func MapReferences(r *Resource, edit func(object Value, reference string) ([]byte, bool)) (*Resource, error) {
	changed := false
	raw := r.Value().Rewrite(func(v Value) ([]byte, bool) {
		ref := v.Member("reference")
		if !ref.IsString() {
			return nil, false
		}
		body, ok := edit(v, ref.Str())
		changed = changed || ok
		return body, ok
	})
	if !changed {
		return r, nil
	}
	return Parse(raw)
}

// WithReference is the Reference object with its reference text replaced, all else kept.
func WithReference(object Value, reference string) []byte {
	at := object.Member("reference")
	return object.Rewrite(func(v Value) ([]byte, bool) {
		if v == at {
			return mustJSON(reference), true
		}
		return nil, false
	})
}
