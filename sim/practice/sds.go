package practice

import (
	"net/http"
	"slices"
	"strings"

	"tombolo/api/gpconnect"
	"tombolo/fhir"
)

// A Listing is where the Spine Directory Service says that a system answers an interaction.
type Listing struct{ ODS, Interaction, Address, ASID string }

// Listings are what a practice at an address registers: every capability under a root of its own.
func Listings(ods, address, asid string) []Listing {
	at := map[string]string{
		gpconnect.InteractionStructured: "", gpconnect.InteractionMetadata: "", interactionHTML: HTMLRoot,
		interactionDocumentPatient: DocumentsRoot, interactionDocumentSearch: DocumentsRoot, interactionDocumentRead: DocumentsRoot,
		interactionPatient: AppointmentsRoot, interactionSlots: AppointmentsRoot, interactionOfPatient: AppointmentsRoot, interactionRead: AppointmentsRoot,
		interactionCreate: AppointmentsRoot, interactionUpdate: AppointmentsRoot, interactionCancel: AppointmentsRoot,
	}
	var out []Listing
	for interaction, root := range at {
		out = append(out, Listing{ods, interaction, address + root, asid})
	}
	return out
}

// NewSDS makes a Spine Directory Service that knows the given listings, as its FHIR interface answers: /Endpoint and /Device.
func NewSDS(listings ...Listing) http.Handler {
	const interactionID, partyKey = "https://fhir.nhs.uk/Id/nhsServiceInteractionId", "https://fhir.nhs.uk/Id/nhsMhsPartyKey"
	serve := func(make func(Listing) fhir.M) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			var found []fhir.M
			for _, l := range listings {
				want := map[string]string{interactionID: l.Interaction, partyKey: l.ODS + "-1"}
				ok := q.Get("organization") == fhir.SystemODS+"|"+l.ODS
				for _, id := range q["identifier"] {
					system, value, _ := strings.Cut(id, "|")
					ok = ok && want[system] == value
				}
				if ok && slices.ContainsFunc(q["identifier"], func(id string) bool { return strings.HasPrefix(id, interactionID+"|") }) {
					found = append(found, fhir.M{"resource": make(l), "search": fhir.M{"mode": "match"}})
				}
			}
			b := fhir.M{"resourceType": "Bundle", "type": "searchset", "total": len(found)}
			if len(found) > 0 {
				b["entry"] = found
			}
			gpconnect.WriteFHIR(w, r, http.StatusOK, b)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /Endpoint", serve(func(l Listing) fhir.M {
		return fhir.M{"resourceType": "Endpoint", "id": l.ODS, "status": "active", "address": l.Address,
			"identifier": []fhir.M{{"system": partyKey, "value": l.ODS + "-1"}}}
	}))
	mux.HandleFunc("GET /Device", serve(func(l Listing) fhir.M {
		return fhir.M{"resourceType": "Device", "id": l.ODS, "identifier": []fhir.M{{"system": fhir.SystemASID, "value": l.ASID}, {"system": partyKey, "value": l.ODS + "-1"}}}
	}))
	return mux
}
