// Package directory is the care services directory: the organisations of the region, what each shares, and where services answer, as mCSD has them.
//
// It is made of the region file, so that there is no second list to go stale, with what ODS adds to it. Nothing in it is about any person. What the file says
// counts; where ODS says something else, operators are told.
//
// IHE mCSD (ITI-90)
package directory

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tombolo/connector/ods"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/region"
	"tombolo/search"
	"tombolo/store"
)

// Bucket is the name of this room's private key-values:
//
//	<Type>/<id>    -> mark: which version of the resource, since when
//	ods/<ODS code> -> ods.Organisation, as last heard
const Bucket = "directory"

// Types are the resource types that the directory holds.
var Types = []string{"Organization", "HealthcareService", "Endpoint"}

// An Endpoint is where this node itself answers.
type Endpoint struct {
	ID, Name, Address string
	Type              fhir.Coding // connection type
	Organisation      string      // ODS code of who answers for it; may be empty
}

// SystemConnection is the code system of connection types. FHIR R4 valueset-endpoint-connection-type.html
const SystemConnection = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"

// Options of a Directory.
type Options struct {
	Store  *store.DB
	Region func() *region.Region // as it is in force now
	Own    func() []Endpoint     // where this node answers
	ODS    *ods.Client           // nil: nobody is asked
	Now    func() time.Time
}

// A Directory answers from memory. It may be used from many goroutines.
type Directory struct {
	o Options

	mu   sync.Mutex
	from *region.Region // of which all is made
	all  map[fhir.Ref]*fhir.Resource
	told map[string]ods.Organisation
}

var _ search.Searcher = (*Directory)(nil)

// New makes a Directory.
func New(o Options) *Directory {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Directory{o: o}
}

// A mark is since when a resource is as it is.
type mark struct {
	Hash    string    `json:"h"`
	Version int       `json:"v"`
	At      time.Time `json:"t"`
}

// resources are all there are, made anew when the region file or ODS has changed.
func (d *Directory) resources(ctx context.Context) (map[fhir.Ref]*fhir.Resource, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.o.Region()
	if d.all != nil && d.from == r {
		return d.all, nil
	}
	if d.told == nil {
		if err := d.recall(ctx); err != nil {
			return nil, err
		}
	}
	made := d.make(r)
	all := map[fhir.Ref]*fhir.Resource{}
	_, err := d.o.Store.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(Bucket)
		clear(all)
		for _, res := range made {
			m, err := d.mark(ctx, b, res)
			if err != nil {
				return err
			}
			all[res.Ref()] = stamped(res, m)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	d.all, d.from = all, r
	return all, nil
}

// mark says since when a resource is as it is, and writes it down if that is now.
func (d *Directory) mark(ctx context.Context, b store.TxBucket, res *fhir.Resource) (m mark, err error) {
	sum := sha256.Sum256(res.Raw())
	hash := hex.EncodeToString(sum[:16])
	v, ok, err := b.Get(ctx, string(res.Ref()))
	if err != nil {
		return m, err
	}
	if ok {
		if err := json.Unmarshal(v, &m); err != nil {
			return m, fhir.Errorf(fhir.Exception, "the directory's marks are unreadable")
		}
	}
	if m.Hash != hash {
		m = mark{hash, m.Version + 1, d.o.Now().UTC().Truncate(time.Millisecond)}
		data, err := json.Marshal(m)
		if err != nil {
			return m, err
		}
		b.Put(string(res.Ref()), data)
	}
	return m, nil
}

func stamped(res *fhir.Resource, m mark) *fhir.Resource {
	out := fhir.M{"meta": fhir.M{"versionId": strconv.Itoa(m.Version), "lastUpdated": m.At.Format("2006-01-02T15:04:05.000Z07:00")}}
	for c := range res.Value().Children() {
		if c.Key() != "resourceType" && c.Key() != "id" {
			out[c.Key()] = json.RawMessage(c.Raw())
		}
	}
	return fhir.New(res.Type(), res.ID(), out)
}

// recall reads what ODS last said.
func (d *Directory) recall(ctx context.Context) error {
	d.told = map[string]ods.Organisation{}
	for item, err := range d.o.Store.View(Bucket).Scan(ctx, "ods/") {
		if err != nil {
			return err
		}
		var o ods.Organisation
		if json.Unmarshal(item.Value, &o) == nil {
			d.told[o.Code] = o
		}
	}
	return nil
}

// Refresh asks ODS about every organisation of the region. What cannot be asked now stays as it was.
func (d *Directory) Refresh(ctx context.Context) error {
	if d.o.ODS == nil {
		return nil
	}
	var failed error
	news := map[string]ods.Organisation{}
	for _, o := range d.o.Region().Organisations {
		said, err := d.o.ODS.Organisation(ctx, o.ODS)
		switch {
		case fhir.Is(err, fhir.NotFound):
			news[o.ODS] = ods.Organisation{Code: o.ODS}
		case err != nil:
			failed = err
		default:
			news[o.ODS] = said
		}
	}
	_, err := d.o.Store.Update(ctx, func(tx store.Tx) error {
		for k, o := range news {
			data, err := json.Marshal(o)
			if err != nil {
				return err
			}
			tx.Bucket(Bucket).Put("ods/"+k, data)
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.all, d.told = nil, nil
	d.mu.Unlock()
	return failed
}

// A Difference is something that ODS says otherwise than the region file.
type Difference struct{ ODS, Why string }

// Differences are what operators have to look at.
func (d *Directory) Differences(ctx context.Context) ([]Difference, error) {
	if _, err := d.resources(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Difference
	for _, o := range d.o.Region().Organisations {
		said, ok := d.told[o.ODS]
		switch {
		case !ok:
		case said.Name == "":
			out = append(out, Difference{o.ODS, "is not known to ODS: check its code in the region file"})
		case !said.Active && o.SucceededBy == "" && len(said.Successors) == 1:
			out = append(out, Difference{o.ODS, "has closed, as ODS says, and " + said.Successors[0] + " has succeeded it: write succeeded_by: " + said.Successors[0] + " at it in the region file"})
		case !said.Active && o.SucceededBy == "" && len(said.Successors) > 1:
			out = append(out, Difference{o.ODS, "has closed, as ODS says, and " + strings.Join(said.Successors, ", ") + " have succeeded it: write succeeded_by with whichever took its patients over"})
		case !said.Active && o.SucceededBy == "":
			out = append(out, Difference{o.ODS, "has closed, as ODS says, and nobody has succeeded it: take it out of the region file when nothing comes from it any more"})
		case !said.Active && len(said.Successors) > 0 && !slices.Contains(said.Successors, o.SucceededBy):
			out = append(out, Difference{o.ODS, "was succeeded by " + strings.Join(said.Successors, " and ") + ", as ODS says, and not by " + o.SucceededBy + " as in the region file"})
		}
	}
	return out, nil
}

// SystemKind and ExtSucceededBy are this program's own.
const (
	SystemKind     = "https://tombolo.dev/CodeSystem/organisation-kind"
	ExtSucceededBy = "https://tombolo.dev/StructureDefinition/succeeded-by"
)

// make makes all resources of a region.
func (d *Directory) make(r *region.Region) []*fhir.Resource {
	endpoints := d.endpoints(r)
	of := map[string][]fhir.Reference{}
	var out []*fhir.Resource
	for _, e := range endpoints {
		f := fhir.M{"status": "active", "connectionType": e.Type, "name": e.Name, "address": e.Address, "payloadType": []fhir.CodeableConcept{{Text: "any"}},
			"identifier": []fhir.Identifier{{System: fhir.SystemSource, Value: e.ID}}}
		if e.Organisation != "" {
			f["managingOrganization"] = reference("Organization", e.Organisation)
			of[e.Organisation] = append(of[e.Organisation], reference("Endpoint", e.ID))
		}
		out = append(out, fhir.New("Endpoint", e.ID, f))
	}
	for _, o := range r.Organisations {
		out = append(out, d.organisation(o, of[o.ODS]))
	}
	for _, s := range r.Systems {
		if len(s.Gives) > 0 {
			out = append(out, service(s, slices.ContainsFunc(endpoints, func(e Endpoint) bool { return e.ID == s.ID })))
		}
	}
	return out
}

func reference(typ, id string) fhir.Reference {
	return fhir.Reference{Reference: typ + "/" + id}
}

func (d *Directory) organisation(o region.Organisation, endpoints []fhir.Reference) *fhir.Resource {
	said := d.told[o.ODS]
	f := fhir.M{"active": o.SucceededBy == "", "name": o.Name, "identifier": []fhir.Identifier{{Use: "official", System: fhir.SystemODS, Value: o.ODS}},
		"type": []fhir.CodeableConcept{{Coding: []fhir.Coding{{System: SystemKind, Code: string(o.Kind)}}}}}
	if o.PartOf != "" {
		f["partOf"] = reference("Organization", o.PartOf)
	}
	if o.SucceededBy != "" {
		f["extension"] = []fhir.M{{"url": ExtSucceededBy, "valueReference": reference("Organization", o.SucceededBy)}}
	}
	if said.Address != nil {
		f["address"] = []*fhir.Address{said.Address}
	}
	if said.Phone != "" {
		f["telecom"] = []fhir.ContactPoint{{System: "phone", Value: said.Phone}}
	}
	if said.Name != "" && !strings.EqualFold(said.Name, o.Name) {
		f["alias"] = []string{said.Name}
	}
	if len(endpoints) > 0 {
		f["endpoint"] = endpoints
	}
	return fhir.New("Organization", o.ODS, f)
}

// service is what a system shares: each heading is a characteristic.
func service(s region.System, published bool) *fhir.Resource {
	var headings []fhir.CodeableConcept
	for _, info := range dataset.All {
		if _, ok := s.Gives[info.Heading]; ok {
			headings = append(headings, fhir.Code(fhir.SystemHeading, string(info.Heading), info.Title))
		}
	}
	f := fhir.M{"active": !s.Release.Off, "name": cmp.Or(s.Name, s.Product, s.ID), "providedBy": reference("Organization", s.Organisation), "characteristic": headings,
		"identifier": []fhir.Identifier{{System: fhir.SystemSource, Value: s.ID}}}
	if published {
		f["endpoint"] = []fhir.Reference{reference("Endpoint", s.ID)}
	}
	return fhir.New("HealthcareService", s.ID, f)
}

// endpoints are where this node answers, where neighbours do, and those systems that the region file has published (options: {publish: yes}): where the others are
// asked is between them and this node.
func (d *Directory) endpoints(r *region.Region) []Endpoint {
	var out []Endpoint
	if d.o.Own != nil {
		out = d.o.Own()
	}
	rest := fhir.Coding{System: SystemConnection, Code: "hl7-fhir-rest"}
	for _, n := range r.Neighbours {
		if n.Address != "" {
			out = append(out, Endpoint{n.ID, cmp.Or(n.Name, n.ID), n.Address, rest, n.Organisation})
		}
	}
	for _, s := range r.Systems {
		if s.Options["publish"] != "yes" || cmp.Or(s.Address, s.Listen) == "" {
			continue
		}
		kind, address := rest, s.Address
		if s.Connector == "hl7v2" {
			kind, address = fhir.Coding{System: SystemConnection, Code: "hl7v2-mllp"}, cmp.Or(s.Address, "mllp://"+s.Listen)
		}
		out = append(out, Endpoint{s.ID, cmp.Or(s.Name, s.Product, s.ID), cmp.Or(address, s.Listen), kind, s.Organisation})
	}
	return out
}

// Read gives one resource; NotFound if there is none.
func (d *Directory) Read(ctx context.Context, ref fhir.Ref) (*fhir.Resource, error) {
	all, err := d.resources(ctx)
	if err != nil {
		return nil, err
	}
	if r := all[ref]; r != nil {
		return r, nil
	}
	return nil, fhir.Errorf(fhir.NotFound, "%s is not in the directory", ref)
}

// Lookup is search.Lookup: those that are there.
func (d *Directory) Lookup(ctx context.Context, refs ...fhir.Ref) ([]*fhir.Resource, error) {
	all, err := d.resources(ctx)
	if err != nil {
		return nil, err
	}
	var out []*fhir.Resource
	for _, ref := range refs {
		if r := all[ref]; r != nil {
			out = append(out, r)
		}
	}
	return out, nil
}

// pageSize is how many a page has if nothing is said; mostOnAPage how many it may have.
const (
	pageSize    = 100
	mostOnAPage = 1000
)

// Search implements search.Searcher.
func (d *Directory) Search(ctx context.Context, q search.Query) (*search.Page, error) {
	all, err := d.resources(ctx)
	if err != nil {
		return nil, err
	}
	var found []*fhir.Resource
	for _, r := range all {
		if r.Type() != q.Type || q.Any != nil && !q.Any[r.Ref()] {
			continue
		}
		ok, err := search.Matches(q, r)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b *fhir.Resource) int { return strings.Compare(a.ID(), b.ID()) })
	search.Sort(q, found)
	from := 0
	if q.Cursor != "" {
		if from, err = strconv.Atoi(q.Cursor); err != nil || from < 0 || from > len(found) {
			return nil, fhir.Errorf(fhir.ValueError, "this is not a cursor of this search: take the next link as it was given").At("_cursor")
		}
	}
	page := &search.Page{Total: len(found), Resources: found[from:]}
	if n := min(cmp.Or(q.Count, pageSize), mostOnAPage); len(page.Resources) > n {
		page.Resources, page.Next = page.Resources[:n], strconv.Itoa(from+n)
	}
	return page, nil
}
