package sim

import (
	"crypto/sha256"
	"encoding/hex"
)

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

const severnYAML = `# The simulated region of the demo. Nobody in it is real.
region: {id: severn, name: Severn Shared Care Record}

organisations:
  - {ods: M85001, name: Hilltop Surgery, kind: gp}
  - {ods: M85002, name: Riverside Medical Centre, kind: gp}
  - {ods: RX1, name: Severn Acute Trust, kind: acute}
  - {ods: RW4, name: Severn Mental Health Trust, kind: mental-health}
  - {ods: RY5, name: Severn Community Health, kind: community}
  - {ods: "918", name: Severn County Council, kind: social-care}
  - {ods: RYA, name: Severn Ambulance Service, kind: ambulance}
  - {ods: QSV, name: Severn Integrated Care Board, kind: other}
{{- if .PDS}}
  - {ods: X26, name: NHS England, kind: other}
{{- end}}

systems:
  - id: m85001-gp
    organisation: M85001
    product: GP system
    connector: gpconnect
    address: {{.Practice1}}
    options: {html: {{.Practice1}}{{.HTMLRoot}}, documents: {{.Practice1}}{{.DocumentsRoot}}, appointments: {{.Practice1}}{{.AppointmentsRoot}}}
    asid: "999000000101"
    gives: {demographics: live, problems: live, medications: live, allergies: live, immunisations: live, encounters: live,
      results: live, observations: live, referrals: live, social-context: live, family-history: live, documents: live}
    deadline: 2s
    release: all
  - id: m85002-gp
    organisation: M85002
    product: GP system
    connector: gpconnect
    address: {{.Practice2}}
    options: {html: {{.Practice2}}{{.HTMLRoot}}, documents: {{.Practice2}}{{.DocumentsRoot}}, appointments: {{.Practice2}}{{.AppointmentsRoot}}}
    asid: "999000000102"
    gives: {demographics: live, problems: live, medications: live, allergies: live, immunisations: live, encounters: live,
      results: live, observations: live, referrals: live, social-context: live, family-history: live, documents: live}
    deadline: 2s
    release: all
  - id: rx1-pas
    organisation: RX1
    product: PAS and integration engine
    connector: hl7v2
    listen: {{.MLLP}}
    gives: {demographics: push, gp-practice: push, personal-contacts: push, allergies: push, problems: push, procedures: push,
      encounters: push, appointments: push, results: push, imaging: push, documents: push}
    release: all
  - id: rw4-mh
    organisation: RW4
    product: Mental health EPR
    connector: fhirapi
    address: {{.Mental}}
    gives: {demographics: live, encounters: live, care-plans: live, risk-assessments: live, legal: live, alerts: live, allergies: live,
      problems: live, medications: live, professional-contacts: live}
    deadline: 2s
    release: all
    options: {token: demo-mental-health}
  - id: ry5-community
    organisation: RY5
    product: Community system
    connector: extract
    drop: {{.CommunityDrop}}
    listen: {{.CommunityHTTP}}
    mapping: builtin:community
    options: {poll: 200ms}
    gives: {demographics: push, encounters: push, appointments: push, care-plans: push, end-of-life: push, observations: push,
      remote-monitoring: push, devices: push, alerts: push, maternity: push}
    release: all
  - id: c918-social
    organisation: "918"
    product: Social care case management
    connector: extract
    drop: {{.CouncilDrop}}
    mapping: builtin:council
    options: {poll: 200ms}
    gives: {demographics: push, social-care: push, professional-contacts: push, personal-contacts: push, documents: push, legal: push,
      safeguarding: push, about-me: push, alerts: push, encounters: push}
    release: all
  - id: rya-999
    organisation: RYA
    product: Ambulance and 111 system
    connector: document
    listen: {{.Documents}}
    gives: {demographics: push, encounters: push, observations: push, documents: push}
    release: all
  - id: qsv-register
    name: Severn register of objections
    organisation: QSV
    product: Register of choices and restrictions
    connector: extract
    drop: {{.RegisterDrop}}
    mapping: register.yaml
    options: {poll: 200ms}
    gives: {}
    release: all
{{- if .PDS}}
  - id: pds
    name: Personal Demographics Service
    organisation: X26
    connector: pds
    address: {{.PDS}}
    options: {rate: "50"}
    gives: {demographics: push}
    release: all
{{- end}}

policy:
  version: 2026-04-0{{if .PDS}}2{{else}}1{{end}}
  author: Ines Duarte, Caldicott Guardian of the board
  reason: the region begins
  explain: [gp]

probing:
  as: gp
  patients: ["{{.CitizenNHS}}", "9990001561"]

agreements:
  - id: severn-direct-care
    parties: [M85001, M85002, RX1, RW4, RY5, "918", RYA, QSV{{if .PDS}}, X26{{end}}]
    purposes: [direct-care]
    headings: all
    basis: UK GDPR 6(1)(e), 9(2)(h); implied consent
    from: 2026-04-01
{{if .National}}
locator:
  national:
    - id: nrl
      name: National Record Locator
      address: {{.National}}
      token: DEMO_NRL
      as: QSV
      organisation: X26
      asks: true
      deadline: 2s
      publishes:
        - {type: "887181000000106", url: "{{.Record}}/launch/nrl/{pointer}", mechanism: InContext}
  retrieval: {hosts: ["{{.Elsewhere}}"]}
{{end}}
users:
  - {id: gp, name: Dr Helen Marsh, role: gp, organisation: M85001, token_sha256: {{sha "demo-gp"}}}
  - {id: doctor, name: Dr Femi Ade, role: hospital-doctor, organisation: RX1, token_sha256: {{sha "demo-doctor"}}}
  - {id: nurse, name: Mary Osborne, role: nurse, organisation: RY5, token_sha256: {{sha "demo-nurse"}}}
  - {id: paramedic, name: Tom Blake, role: paramedic, organisation: RYA, token_sha256: {{sha "demo-paramedic"}}}
  - {id: social-worker, name: Dawn Hibbert, role: social-worker, organisation: "918", token_sha256: {{sha "demo-social-worker"}}}
  - {id: receptionist, name: Pat Lyle, role: receptionist, organisation: RX1, token_sha256: {{sha "demo-receptionist"}}}
  - {id: steward, name: Leila Haddad, role: steward, organisation: QSV, token_sha256: {{sha "demo-steward"}}}
  - {id: privacy, name: Ines Duarte, role: privacy-officer, organisation: QSV, token_sha256: {{sha "demo-privacy"}}}
  - {id: operator, name: Owen Rees, role: operator, organisation: QSV, token_sha256: {{sha "demo-operator"}}}
  - {id: citizen, name: Margaret Taylor, role: citizen, token_sha256: {{sha "demo-citizen"}}, person: "https://fhir.nhs.uk/Id/nhs-number|{{.CitizenNHS}}"}
{{if .Neighbour}}
neighbours:
  - {id: wye, name: Wye Shared Care Record, kind: tombolo, address: {{.Neighbour}}, issuer: {{.Neighbour}}}
{{end}}`
