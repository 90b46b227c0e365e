package sim

import (
	"strings"
	"text/template"
)

// Addresses are where the simulated region's parts are to be found.
type Addresses struct {
	Practice1, Practice2, Mental              string // base URLs
	MLLP                                      string // host:port at which the node listens for the acute trust
	CommunityDrop, CouncilDrop                string // folders
	CommunityHTTP                             string // host:port at which the node takes the community provider's uploads
	Documents                                 string // host:port at which the node takes ambulance documents
	Neighbour                                 string // base URL of the neighbouring region's node; "" for none
	RegisterDrop                              string
	HTMLRoot, DocumentsRoot, AppointmentsRoot string // of the practices, below their base URLs
	CitizenNHS                                string // of the demo citizen
	PDS, National, Record, Elsewhere          string // the national services, this region's own record, and the host of a trust elsewhere; "" for none
}

// Region writes the region file of Severn for the given addresses. It is a region file like any other: the demo prints it,
// check checks it, map draws it.
func Region(a Addresses) []byte {
	var b strings.Builder
	if err := severn.Execute(&b, a); err != nil {
		panic("sim: " + err.Error())
	}
	return []byte(b.String())
}

// The tokens of the demo's users are their ids behind this prefix; they are for loopback only, and printed at start.
const TokenPrefix = "demo-"

var severn = template.Must(template.New("severn.yaml").Funcs(template.FuncMap{"sha": sha}).Parse(severnYAML))
