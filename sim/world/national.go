package world

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"tombolo/connector/nrl"
	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
	"tombolo/sim/national"
	"tombolo/sim/pds"
)

// nationals are the national services of the simulation, as their specifications have them: PDS, and the record locator with what a trust elsewhere has registered.
type nationals struct {
	pds     *pds.Service
	locator *national.Locator
}

// Where the simulated locator's token is kept, and the token.
const (
	locatorToken = "DEMO_NRL"
	tokenThere   = "demo-national"
)

// elsewhere is a trust of no region here, which has a plan of Margaret's.
const elsewhere = "RAX"

const plan = "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n" +
	"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 100]/Contents 4 0 R/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>endobj\n" +
	"4 0 obj<</Length 59>>stream\nBT /F 12 Tf 20 50 Td (End of life plan, kept by a trust elsewhere) Tj ET\nendstream endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"

// startNationals starts them, and says where they are.
func (w *World) startNationals(a *sim.Addresses) (err error) {
	w.nationals = &nationals{pds: pds.New(pds.Options{People: w.People, Now: w.o.Now}), locator: national.New(national.Options{Token: tokenThere, Now: w.o.Now})}
	if a.PDS, err = w.serve(w.nationals.pds); err != nil {
		return err
	}
	if a.National, err = w.serve(w.nationals.locator); err != nil {
		return err
	}
	a.Record = "http://" + w.o.Listen
	there, err := w.serve(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Content-Type", "application/pdf")
		_, _ = out.Write([]byte(plan))
	}))
	if err != nil {
		return err
	}
	a.Elsewhere = there[len("http://"):]
	f := nrl.Form{Custodian: elsewhere, URL: there + "/plans/1", Mechanism: nrl.Direct, Content: "pdf", Setting: fhir.Coding{System: fhir.SystemSNOMED, Code: "103735009", Display: "Palliative care"}}
	f.Type, _ = nrl.TypeNamed("736373009") // End of life care plan
	w.nationals.locator.Register(nrl.Pointer{Resource: f.Make(nrl.Number(w.Person(cast.Main).NHS), "1").With("id", elsewhere+"-1").Without("masterIdentifier")})
	return nil
}

// nationally looks at what the national services have to do with Margaret: PDS was asked who she is, this region's record is registered, and what a trust elsewhere
// registered stands in her record and opens from there.
func (c *checker) nationally() error {
	n := c.w.nationals
	if n == nil {
		c.saw("not in this region")
		return nil
	}
	margaret := c.w.Person(cast.Main)
	ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
	defer cancel()
	for {
		why := c.known(margaret.NHS)
		if why == nil && len(n.locator.Pointers(margaret.NHS)) == 2 {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d pointers to her stand nationally, want 2 (%w)", len(n.locator.Pointers(margaret.NHS)), errors.Join(why, ctx.Err()))
		case <-time.After(100 * time.Millisecond):
		}
	}
	_, b, err := c.gather("doctor", fhir.Identifier{System: fhir.SystemNHSNumber, Value: margaret.NHS})
	if err != nil {
		return err
	}
	for _, d := range b.find("DocumentReference", "") {
		if d.Text("custodian.identifier.value") != elsewhere {
			continue
		}
		status, _, data, err := c.http(http.MethodGet, "/record/"+personOf(b)+"/document/"+d.ID(), "doctor", "", nil)
		if err != nil || status != http.StatusOK || !bytes.HasPrefix(data, []byte("%PDF-")) {
			return fmt.Errorf("what the pointer leads to does not open: status %d, %v", status, err)
		}
		c.saw("PDS says who she is; this record is registered; the plan of a trust elsewhere opens from hers")
		return nil
	}
	return errors.New("what a trust elsewhere registered does not stand in her record")
}

// known reports whether PDS has told of somebody: nil if so.
func (c *checker) known(nhs string) error {
	id, err := c.w.Node.People.Resolve(c.ctx, fhir.Identifier{System: fhir.SystemNHSNumber, Value: nhs})
	if err != nil {
		return err
	}
	p, err := c.w.Node.People.Person(c.ctx, id)
	if err != nil {
		return err
	}
	if len(p.PatientIDs("pds")) == 0 {
		return errors.New("PDS has not been asked about her yet")
	}
	return nil
}
