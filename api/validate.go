package api

import (
	"net/http"
	"slices"
	"strings"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/fhir/r4"
)

// validate is [type]/$validate: what is wrong with a resource, all of it at once; nothing is kept. FHIR R4 resource-operation-validate.html
func (s *server) validate(w http.ResponseWriter, r *http.Request, _ *access.Session) error {
	typ := r.PathValue("type")
	if !fhir.IsType(typ) {
		return unknownType(typ)
	}
	_, res, err := read(r)
	if err != nil {
		return err
	}
	profiles := r.URL.Query()["profile"]
	at := ""
	if res.Type() == "Parameters" && typ != "Parameters" {
		var inner fhir.Value
		for p := range res.Value().All("parameter") {
			switch p.Text("name") {
			case "resource":
				inner = p.Member("resource")
			case "profile":
				profiles = append(profiles, p.Text("valueUri")+p.Text("valueCanonical"))
			case "mode":
				if m := p.Text("valueCode"); m != "create" && m != "update" {
					return fhir.Errorf(fhir.NotSupported, "the modes are create and update").At("mode")
				}
			}
		}
		if !inner.Exists() {
			return fhir.Errorf(fhir.Required, "say what is to be validated").At("resource")
		}
		if res, err = fhir.FromValue(inner); err != nil {
			return err
		}
		at = "Parameters.parameter.resource: "
	}
	if res.Type() != typ {
		return fhir.Errorf(fhir.Invalid, "this address is for a %s, and the body is a %s", typ, res.Type()).At("resourceType")
	}
	issues := r4.Check(res, r4.Whole)
	for i, issue := range issues {
		if issue.Severity == "" {
			issues[i] = issue.At(at + issue.Expression)
		}
	}
	claimed := slices.Clone(profiles)
	for p := range res.Value().All("meta.profile") {
		claimed = append(claimed, p.Str())
	}
	for _, p := range claimed {
		if p != "" && !strings.HasPrefix(p, "http://hl7.org/fhir/StructureDefinition/"+typ) {
			i := fhir.Errorf(fhir.Informational, "the profile %.200s is not known here: the resource was held to R4 itself", p).At("meta.profile")
			i.Severity = fhir.Warning
			issues = append(issues, i)
		}
	}
	if !slices.ContainsFunc(issues, func(i *fhir.Issue) bool { return i.Severity == "" || i.Severity == fhir.SevError }) {
		issues = append(issues, &fhir.Issue{Type: fhir.Informational, Severity: fhir.Information, Text: "R4's structure, cardinalities and required codes hold. Invariants and other terminologies were not looked at."})
	}
	write(w, r, http.StatusOK, fhir.Outcome(issues...).Raw())
	return nil
}
