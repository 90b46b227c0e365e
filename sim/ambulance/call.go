package ambulance

import (
	"bytes"
	"encoding/xml"
	"strings"
	"text/template"
	"time"

	"tombolo/sim/cast"
)

// call writes a 111 call as an NHS 111 CDA in an ITK distribution envelope in SOAP, as a 111 provider's system posts it.
func (s *Service) call(p cast.Person, e cast.Encounter) []byte {
	written := e.End
	if written == "" {
		written = e.Start
	}
	data := map[string]any{
		"Tracking": strings.ToUpper(s.uuid("tracking", e.ID)), "Document": strings.ToUpper(s.uuid("document", e.ID)), "Set": strings.ToUpper(s.uuid("set", e.ID)),
		"Written": hl7Time(written), "Start": hl7Time(e.Start), "End": hl7Time(e.End), "Org": s.org, "Person": p, "Local": p.LocalID(s.o.Source), "Encounter": e,
		"Born": strings.ReplaceAll(p.Born, "-", ""), "Gender": map[string]string{"male": "1", "female": "2"}[p.Sex],
		"Confidentiality": map[bool]string{true: "R", false: "N"}[p.Restricted],
	}
	var b bytes.Buffer
	if err := callTemplate.Execute(&b, data); err != nil {
		panic("ambulance: " + err.Error()) // the template's fault, never the data's
	}
	return b.Bytes()
}

// hl7Time is a FHIR dateTime as HL7 v3 writes it: 20210803140714+0100.
func hl7Time(s string) string {
	t, err := time.Parse("2006-01-02T15:04:05-07:00", s)
	if err != nil {
		return strings.ReplaceAll(s, "-", "")
	}
	return t.Format("20060102150405-0700")
}

func escaped(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}

var callTemplate = template.Must(template.New("call").Funcs(template.FuncMap{"x": escaped}).Parse(`<?xml version="1.0" encoding="UTF-8"?>
<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body>
<itk:DistributionEnvelope xmlns:itk="urn:nhs-itk:ns:201005">
<itk:header service="urn:nhs-itk:services:201005:SendNHS111Report-v2-0" trackingid="{{.Tracking}}">
<itk:manifest count="1"><itk:manifestitem id="uuid_{{.Document}}" mimetype="text/xml" profileid="urn:nhs-en:profile:nhs111CDADocument-v2-0"/></itk:manifest>
<itk:senderAddress uri="urn:nhs-uk:addressing:ods:{{.Org.ODS}}"/>
</itk:header>
<itk:payloads count="1"><itk:payload id="uuid_{{.Document}}">
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:npfitlc="NPFIT:HL7:Localisation" classCode="DOCCLIN" moodCode="EVN">
<typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>
<npfitlc:messageType root="2.16.840.1.113883.2.1.3.2.4.18.17" extension="POCD_MT200001GB02"/>
<id root="{{.Document}}"/>
<code code="819551000000100" codeSystem="2.16.840.1.113883.2.1.3.2.4.15" displayName="NHS 111 report"/>
<title>NHS 111 Report</title>
<effectiveTime value="{{.Written}}"/>
<confidentialityCode code="{{.Confidentiality}}" codeSystem="2.16.840.1.113883.1.11.16926"/>
<setId root="{{.Set}}"/><versionNumber value="1"/>
<recordTarget typeCode="RCT"><patientRole classCode="PAT">
<id root="2.16.840.1.113883.2.1.3.2.4.18.24" extension="{{x .Local}}" assigningAuthorityName="{{x .Org.ODS}}:{{x .Org.Name}}"/>
{{- with .Person.NHS}}
<id root="2.16.840.1.113883.2.1.4.1" extension="{{.}}"/>{{end}}
{{- if not .Person.Restricted}}
<addr use="H">{{range .Person.Address}}<streetAddressLine>{{x .}}</streetAddressLine>{{end}}<city>{{x .Person.City}}</city><postalCode>{{x .Person.Postcode}}</postalCode></addr>
{{- with .Person.Phone}}
<telecom value="tel:{{x .}}" use="H"/>{{end}}{{end}}
<patient classCode="PSN"><name use="L">{{with .Person.Prefix}}<prefix>{{x .}}</prefix>{{end}}{{range .Person.Given}}<given>{{x .}}</given>{{end}}<family>{{x .Person.Family}}</family></name>
{{- with .Gender}}
<administrativeGenderCode code="{{.}}" codeSystem="2.16.840.1.113883.2.1.3.2.4.16.25"/>{{end}}
<birthTime value="{{.Born}}"/></patient>
</patientRole></recordTarget>
<author typeCode="AUT"><time value="{{.Written}}"/><assignedAuthor classCode="ASSIGNED">
<id root="2.16.840.1.113883.2.1.3.2.4.18.24" extension="{{x .Encounter.By}}" assigningAuthorityName="{{x .Org.ODS}}:{{x .Org.Name}}"/>
<code code="NR1690" codeSystem="2.16.840.1.113883.2.1.3.2.4.17.196" displayName="{{x .Encounter.Role}}"/>
<assignedPerson classCode="PSN"><name>{{x .Encounter.By}}</name></assignedPerson>
</assignedAuthor></author>
<custodian typeCode="CST"><assignedCustodian classCode="ASSIGNED"><representedCustodianOrganization classCode="ORG">
<id root="2.16.840.1.113883.2.1.3.2.4.19.1" extension="{{x .Org.ODS}}"/><name>{{x .Org.Name}}</name>
</representedCustodianOrganization></assignedCustodian></custodian>
<componentOf typeCode="COMP"><encompassingEncounter classCode="ENC" moodCode="EVN">
<id root="2.16.840.1.113883.2.1.3.2.4.18.49" extension="{{x .Encounter.ID}}"/>
<code code="NHS111Encounter" codeSystem="2.16.840.1.113883.2.1.3.2.4.17.326" displayName="NHS111 Encounter"/>
<effectiveTime><low value="{{.Start}}"/>{{with .End}}<high value="{{.}}"/>{{end}}</effectiveTime>
</encompassingEncounter></componentOf>
<component typeCode="COMP"><structuredBody classCode="DOCBODY" moodCode="EVN">
<component typeCode="COMP"><section classCode="DOCSECT" moodCode="EVN">
<component typeCode="COMP"><section classCode="DOCSECT" moodCode="EVN"><title>Patient&apos;s Reported Condition</title><text>{{x .Encounter.Reason}}</text></section></component>
{{- with .Encounter.Note}}
<component typeCode="COMP"><section classCode="DOCSECT" moodCode="EVN"><title>Advice Given</title><text><content>{{x .}}</content><br/></text></section></component>{{end}}
</section></component>
</structuredBody></component>
</ClinicalDocument>
</itk:payload></itk:payloads></itk:DistributionEnvelope>
</soap:Body></soap:Envelope>
`))
