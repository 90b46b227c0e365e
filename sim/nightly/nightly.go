// Package nightly is the sender's side of a nightly extract: the tables of a simulated system, written the way such systems write
// them (Windows-1252, CRLF, British dates), left in a drop folder under their final name only once they are whole, or uploaded by HTTP.
package nightly

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"

	"tombolo/sim"
	"tombolo/sim/cast"
)

// Options of a system that sends by night. Drop or URL is needed.
type Options struct {
	Drop   string        // the drop folder
	URL    string        // or the upload listener's base URL
	Token  string        // for the upload
	People []cast.Person // the named cast if nil
	Faults *sim.Faults
	Now    func() time.Time
	Client *http.Client
}

// At gives those of the people whom a source of the cast knows, and where its files go.
func (o Options) At(source string) ([]cast.Person, Handover, error) {
	if o.Drop == "" && o.URL == "" {
		return nil, Handover{}, errors.New("give a drop folder or an upload address")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.People == nil {
		o.People = cast.Dozen(o.Now())
	}
	known := slices.DeleteFunc(slices.Clone(o.People), func(p cast.Person) bool { return !p.At(source) })
	return known, Handover{Drop: o.Drop, URL: o.URL, Token: o.Token, Client: o.Client, Faults: o.Faults}, nil
}

// A Handover is where the files go: a drop folder, or the base URL of an upload listener.
type Handover struct {
	Drop   string
	URL    string
	Token  string
	Client *http.Client
	Faults *sim.Faults
}

// Off reports whether the night's run does not happen at all: a source that is slow or down leaves no file.
func (h Handover) Off() bool {
	f := h.fault()
	return f == sim.FaultDown || f == sim.FaultSlow
}

func (h Handover) fault() sim.Fault {
	if h.Faults == nil {
		return sim.FaultNone
	}
	f, _ := h.Faults.Now()
	return f
}

// WrongPatient reports whether rows must go out under somebody else's NHS number.
func (h Handover) WrongPatient() bool { return h.fault() == sim.FaultWrongPatient }

// PutTables hands the night's tables over, one after the other.
func (h Handover) PutTables(ctx context.Context, tables []*Table) error {
	for _, t := range tables {
		if err := h.Put(ctx, t.Name, t.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// Put hands one file over, whole, or spoiled as the fault that is switched on says.
func (h Handover) Put(ctx context.Context, name string, data []byte) error {
	switch h.fault() {
	case sim.FaultGarbage:
		data = garbage(len(data))
	case sim.FaultTruncated:
		data = data[:len(data)/2]
	case sim.FaultDown, sim.FaultSlow:
		return nil
	}
	if h.URL != "" {
		return h.upload(ctx, name, data)
	}
	to := filepath.Join(h.Drop, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(to), 0o770); err != nil {
		return fmt.Errorf("hand over %s: %w", name, err)
	}
	if err := os.WriteFile(to+".part", data, 0o660); err != nil {
		return fmt.Errorf("hand over %s: %w", name, err)
	}
	if err := os.Rename(to+".part", to); err != nil {
		return fmt.Errorf("hand over %s: %w", name, err)
	}
	return nil
}

func (h Handover) upload(ctx context.Context, name string, data []byte) error {
	var parts []string
	for p := range strings.SplitSeq(name, "/") {
		parts = append(parts, url.PathEscape(p))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, strings.TrimSuffix(h.URL, "/")+"/"+strings.Join(parts, "/"), bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("upload %s: %w", name, err)
	}
	req.Header.Set("Content-Type", "text/csv; charset=windows-1252")
	if h.Token != "" {
		req.Header.Set("Authorization", "Bearer "+h.Token)
	}
	client := h.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("upload %s: %w", name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if resp.StatusCode >= 300 {
		return fmt.Errorf("upload %s: %s: %s", name, resp.Status, body)
	}
	return nil
}

func garbage(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]byte, max(n, 64))
	for i := range out {
		out[i] = byte(r.Uint32())
	}
	return out
}

// A Table is one file of the extract.
type Table struct {
	Name    string
	Columns []string
	rows    [][]string
}

// Add adds a row; there must be a cell for each column.
func (t *Table) Add(cells ...string) {
	if len(cells) != len(t.Columns) {
		panic(fmt.Sprintf("nightly: %s has %d columns, the row %d", t.Name, len(t.Columns), len(cells)))
	}
	t.rows = append(t.rows, cells)
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Bytes is the file: Windows-1252, CRLF, a cell in quotes only where it must be. What Windows-1252 cannot say becomes "?", as it
// does in such systems.
func (t *Table) Bytes() []byte {
	var b strings.Builder
	line := func(cells []string) {
		for i, c := range cells {
			if i > 0 {
				b.WriteByte(',')
			}
			if strings.ContainsAny(c, "\",\r\n") {
				c = `"` + strings.ReplaceAll(c, `"`, `""`) + `"`
			}
			b.WriteString(c)
		}
		b.WriteString("\r\n")
	}
	line(t.Columns)
	for _, r := range t.rows {
		line(r)
	}
	out, _ := encoding.ReplaceUnsupported(charmap.Windows1252.NewEncoder()).String(b.String())
	return []byte(out)
}

// Day writes a FHIR date or dateTime of the cast as a British date; empty stays empty.
func Day(s string) string {
	if len(s) < 10 {
		return s
	}
	return s[8:10] + "/" + s[5:7] + "/" + s[:4]
}

// Clock is the time of day of a dateTime of the cast; empty if it has none.
func Clock(s string) string {
	if len(s) < 16 {
		return ""
	}
	return s[11:16]
}

// Moment is Day and Clock together.
func Moment(s string) string { return strings.TrimSpace(Day(s) + " " + Clock(s)) }

// Flag is Y or N.
func Flag(b bool) string {
	if b {
		return "Y"
	}
	return "N"
}

// Who are the cells that tell who a row is about, the same in each file: the source's own number, NHS number, family and given names,
// title, born, died, sex, address, town, postcode, telephone, restricted.
func Who(p cast.Person, source, nhs string) []string {
	sex := map[string]string{"female": "F", "male": "M"}[p.Sex]
	return []string{p.LocalID(source), spaced(nhs), p.Family, strings.Join(p.Given, " "), p.Prefix, Day(p.Born), Day(p.Died), sex,
		strings.Join(p.Address, "; "), p.City, p.Postcode, p.Phone, Flag(p.Restricted)}
}

// spaced writes an NHS number as people do.
func spaced(nhs string) string {
	if len(nhs) != 10 {
		return nhs
	}
	return nhs[:3] + " " + nhs[3:6] + " " + nhs[6:]
}
