package sim

import (
	"strings"
	"text/template"
)

// WyeRegion writes the region file of the neighbouring region, whose one hospital serves FHIR at the given address, and which Severn asks, at
// the address that it is to have.
func WyeRegion(hospital, severn string) []byte {
	var b strings.Builder
	if err := wye.Execute(&b, struct{ Hospital, Severn string }{hospital, severn}); err != nil {
		panic("sim: " + err.Error())
	}
	return []byte(b.String())
}

var wye = template.Must(template.New("wye.yaml").Parse(`# The region next door to the demo's. Nobody in it is real.
region: {id: wye, name: Wye Shared Care Record}

organisations:
  - {ods: WD1, name: Wye District Hospital, kind: acute}
  - {ods: QSV, name: Severn Integrated Care Board, kind: other}

systems:
  - id: wd1-epr
    organisation: WD1
    product: Hospital EPR
    connector: fhirapi
    address: {{.Hospital}}
    gives: {demographics: live, encounters: live, allergies: live, problems: live, alerts: live}
    deadline: 1500ms
    release: all
    options: {token: demo-wye-hospital}

agreements:
  - id: wye-severn
    parties: [WD1, QSV]
    purposes: [direct-care]
    headings: all
    from: 2026-04-01

neighbours:
  - {id: severn, name: Severn Shared Care Record, kind: tombolo, address: {{.Severn}}, issuer: {{.Severn}}, keys: {{.Severn}}/oauth/keys, organisation: QSV, only-asks: true}
`))
