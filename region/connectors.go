package region

import "strings"

// A ConnectorKind says what a region file must tell about a system that speaks so.
type ConnectorKind struct {
	Name   string
	Pushes bool       // the system sends by itself
	Asked  bool       // it can be asked live
	Needs  [][]string // each group: at least one of these keys
	Fix    string     // how to give what is needed
}

// Connectors are the kinds of connector. node wires each name to its code.
var Connectors = []ConnectorKind{
	{Name: "hl7v2", Pushes: true, Needs: [][]string{{"listen", "address"}}, Fix: "Add listen: 127.0.0.1:2575, the address to which the system sends its messages, or address: mllps://host:port, at which it serves them"},
	{Name: "fhirapi", Asked: true, Needs: [][]string{{"address"}}, Fix: "Add address: https://…/fhir, the base URL of its FHIR server"},
	{Name: "gpconnect", Asked: true, Needs: [][]string{{"address", "options.sds"}, {"asid", "options.sds"}}, Fix: "Add address: https://…, the practice's service root, and asid; or options: {sds: https://…}, the Spine directory in which both are looked up"},
	{Name: "extract", Pushes: true, Needs: [][]string{{"drop"}, {"mapping"}}, Fix: "Add drop: the folder in which its files appear, and mapping: how they are read"},
	{Name: Consumer, Needs: [][]string{{"certificate"}}, Fix: "Add certificate: the name in the client certificate with which it asks us"},
	{Name: "api", Pushes: true},
	{Name: "pds", Pushes: true, Asked: true, Needs: [][]string{{"address"}}, Fix: "Add address: https://…/personal-demographics/FHIR/R4, the service root of PDS"},
	{Name: "document", Pushes: true, Needs: [][]string{{"listen", "drop"}}, Fix: "Add listen: host:port for documents sent to us, or drop: the folder in which they appear"},
}

// Consumer is the kind of a system that only asks us.
const Consumer = "consumer"

// Connector finds a kind by its name.
func Connector(name string) (ConnectorKind, bool) {
	for _, k := range Connectors {
		if k.Name == name {
			return k, true
		}
	}
	return ConnectorKind{}, false
}

func connectorList() []string {
	out := make([]string, len(Connectors))
	for i, k := range Connectors {
		out[i] = k.Name
	}
	return out
}

func connectorNames() string { return strings.Join(connectorList(), ", ") }

// key is a system's value of a key that connectors need.
func (s System) key(name string) string {
	switch name {
	case "listen":
		return s.Listen
	case "address":
		return s.Address
	case "drop":
		return s.Drop
	case "mapping":
		return s.Mapping
	case "asid":
		return s.ASID
	case "options.sds":
		return s.Options["sds"]
	case "certificate":
		return s.Certificate
	}
	return ""
}
