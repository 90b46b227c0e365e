package world

import (
	_ "embed"
	"html/template"
	"net/http"
	"slices"
	"time"

	"tombolo/sim"
	"tombolo/sim/cast"
)

//go:embed switchboard.html
var switchboardHTML string

var switchboardPage = template.Must(template.New("switchboard").Parse(switchboardHTML))

// faults that the page offers, in words.
var faults = []struct {
	Fault sim.Fault
	Words string
}{
	{sim.FaultNone, "behaves"}, {sim.FaultSlow, "slow: answers after 10 s"}, {sim.FaultDown, "down: drops every connection"},
	{sim.FaultWrongPatient, "wrong patient: answers about somebody else"}, {sim.FaultGarbage, "garbage: answers what is no answer"},
	{sim.FaultDrip, "drip: a byte at a time"}, {sim.Fault429, "too many requests"}, {sim.Fault500, "internal error"}, {sim.FaultTruncated, "truncated: half an answer"},
}

// live are the sources that are asked, so that their faults show at once.
var live = []string{cast.GP1, cast.GP2, cast.Mental}

// switchboard is the page on which the demo's sources can be made to misbehave.
func (w *World) switchboard() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sim", func(rw http.ResponseWriter, _ *http.Request) {
		type row struct {
			Source, Name string
			Now          sim.Fault
		}
		var rows []row
		for _, s := range live {
			now, _ := w.Faults[s].Now()
			rows = append(rows, row{s, cast.OrganisationOf(s).Name, now})
		}
		rw.Header().Set("Content-Type", "text/html; charset=utf-8")
		rw.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'")
		_ = switchboardPage.Execute(rw, map[string]any{"Rows": rows, "Faults": faults})
	})
	mux.HandleFunc("POST /sim", func(rw http.ResponseWriter, r *http.Request) {
		source, fault := r.FormValue("source"), sim.Fault(r.FormValue("fault"))
		f, ok := w.Faults[source]
		if !ok || !slices.ContainsFunc(faults, func(x struct {
			Fault sim.Fault
			Words string
		}) bool {
			return x.Fault == fault
		}) {
			http.Error(rw, "there is no such source or fault", http.StatusBadRequest)
			return
		}
		f.Set(fault, 10*time.Second)
		http.Redirect(rw, r, "/sim", http.StatusSeeOther)
	})
	return http.NewCrossOriginProtection().Handler(mux)
}
