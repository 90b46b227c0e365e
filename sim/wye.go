package sim

import (
	"strings"
	"text/template"
)

// WyeRegion writes the region file of the neighbouring region, whose one hospital serves FHIR at the given address.
func WyeRegion(hospital string) []byte {
	var b strings.Builder
	if err := wye.Execute(&b, hospital); err != nil {
		panic("sim: " + err.Error())
	}
	return []byte(b.String())
}

var wye = template.Must(template.New("wye.yaml").Funcs(template.FuncMap{"sha": sha}).Parse(`# The region next door to the demo's. Nobody in it is real.
region: {id: wye, name: Wye Shared Care Record}

organisations:
  - {ods: WD1, name: Wye District Hospital, kind: acute}
  - {ods: QSV, name: Severn Integrated Care Board, kind: other}

systems:
  - id: wd1-epr
    organisation: WD1
    product: Hospital EPR
    connector: fhirapi
    address: {{.}}
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

users:
  - {id: severn, name: Severn Shared Care Record, role: neighbour, organisation: QSV, token_sha256: {{sha "demo-severn"}}}
`))
