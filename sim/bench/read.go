package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tombolo/connector/hl7v2"
	"tombolo/fhir"
	"tombolo/region"
	"tombolo/sim"
	"tombolo/sim/cast"
	"tombolo/sim/world"
)

// unlimited lets one user ask as often as the machine answers.
const unlimited = "limits: {opens: 0, client_opens: 0}\n"

// gatherRecord asks for the named dozen's records, each from every source that knows them, over the FHIR API.
func gatherRecord(ctx context.Context, o Options) (Result, error) {
	if o.Count <= 0 {
		o.Count = 2000
	}
	o.Told("starting the region")
	w, err := world.Start(ctx, world.Options{Dir: o.Dir, Seed: o.Seed, Also: unlimited})
	if err != nil {
		return Result{}, err
	}
	defer w.Close()
	var ask []*fhir.Resource
	for _, p := range w.People {
		if p.NHS == "" || p.Objects {
			continue
		}
		ask = append(ask, fhir.New("Parameters", "", fhir.M{"parameter": []fhir.M{{"name": "identifier",
			"valueIdentifier": fhir.Identifier{System: fhir.SystemNHSNumber, Value: p.NHS}}}}))
	}
	url := w.URL() + "/fhir/$gather"
	one := func(ctx context.Context, client *http.Client, n int) (int64, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(ask[n%len(ask)].Raw()))
		if err != nil {
			return 0, err
		}
		req.Header.Set("Content-Type", "application/fhir+json")
		return fetch(client, req)
	}
	return requests(ctx, o, "records gathered", one)
}

// manyResults is how many result messages, of ten results each, make a person of a thousand resources.
const manyResults = 90

// readPerson reads the whole stored record of one person who has about a thousand resources.
func readPerson(ctx context.Context, o Options) (Result, error) {
	if o.Count <= 0 {
		o.Count = 500
	}
	w, err := world.Start(ctx, world.Options{Dir: o.Dir, Seed: o.Seed, Also: unlimited})
	if err != nil {
		return Result{}, err
	}
	defer w.Close()
	p := w.Person("margaret")
	o.Told("sending %d messages of results", manyResults)
	var results [][]byte
	for i := range manyResults {
		results = append(results, resultMessage(p, i, 10))
	}
	addr := ""
	r, _ := region.Parse("severn.yaml", w.Region)
	for _, s := range r.Systems {
		if s.ID == cast.Acute {
			addr = s.Listen
		}
	}
	if _, err := send(ctx, addr, results); err != nil {
		return Result{}, err
	}
	person, err := w.Node.People.Resolve(ctx, fhir.Identifier{System: fhir.SystemNHSNumber, Value: p.NHS})
	if err != nil {
		return Result{}, err
	}
	url := w.URL() + "/fhir/Patient/" + person + "/$everything"
	return requests(ctx, o, "whole records read", func(ctx context.Context, client *http.Client, _ int) (int64, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return 0, err
		}
		return fetch(client, req)
	})
}

// resultMessage is one laboratory report about a person. HL7 v2.4 §7.3.1
func resultMessage(p cast.Person, n, results int) []byte {
	at := today.AddDate(0, 0, -n).Format("200601021504")
	var e hl7v2.Encoder
	e.Segment("MSH", hl7v2.Fields{3: "LAB", 4: "RX1", 5: "TOMBOLO", 6: "SEVERN", 7: at, 9: hl7v2.Comp("ORU", "R01", "ORU_R01"), 10: fmt.Sprintf("BENCH%06d", n), 11: "P", 12: "2.4"})
	e.Segment("PID", hl7v2.Fields{3: hl7v2.Rep(hl7v2.Comp(p.NHS, "", "", "NHS", "NH"), hl7v2.Comp(p.LocalID(cast.Acute), "", "", "RX1", "PI")),
		5: hl7v2.Comp(p.Family, p.Given[0]), 7: strings.ReplaceAll(p.Born, "-", "")})
	e.Segment("OBR", hl7v2.Fields{1: "1", 3: hl7v2.Comp(fmt.Sprintf("F%06d", n), "LAB"), 4: hl7v2.Comp("26604007", "Full blood count", "SCT"), 7: at, 22: at, 24: "HM", 25: "F"})
	for i := range results {
		e.Segment("OBX", hl7v2.Fields{1: fmt.Sprint(i + 1), 2: "NM", 3: hl7v2.Comp(fmt.Sprintf("%d", 1000000+i), fmt.Sprintf("Measurement %d", i), "L"),
			5: fmt.Sprintf("%d.%d", 4+n%9, i), 6: "mmol/L", 7: "3.5-5.3", 11: "F", 14: at})
	}
	return e.Bytes()
}

// requests does one thing o.Count times over o.Connections connections.
func requests(ctx context.Context, o Options, what string, one func(ctx context.Context, client *http.Client, n int) (int64, error)) (Result, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: o.Connections}}
	defer client.CloseIdleConnections()
	for n := range 2 * o.Connections { // caches
		if _, err := one(ctx, client, n); err != nil {
			return Result{}, err
		}
	}
	o.Told("measuring")
	took := make([][]time.Duration, o.Connections)
	errs := make([]error, o.Connections)
	var next, size atomic.Int64
	var wg sync.WaitGroup
	watch := start(o)
	for i := range o.Connections {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(o.Count); n = next.Add(1) {
				began := time.Now()
				got, err := one(ctx, client, int(n))
				if err != nil {
					errs[i] = err
					return
				}
				size.Add(got)
				took[i] = append(took[i], time.Since(began))
			}
		})
	}
	wg.Wait()
	var all []time.Duration
	for i := range took {
		if errs[i] != nil {
			return Result{}, errs[i]
		}
		all = append(all, took[i]...)
	}
	r := watch.result(what, len(all), o.Connections, all)
	r.More = map[string]float64{"bytes each": float64(size.Load()) / float64(max(len(all), 1))}
	return r, nil
}

// fetch sends a request as the demo's doctor and reads all of the answer.
func fetch(client *http.Client, req *http.Request) (int64, error) {
	req.Header.Set("Authorization", "Bearer "+sim.TokenPrefix+"doctor")
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fhir.Errorf(fhir.Processing, "the node answered %s", resp.Status)
	}
	return n, err
}
