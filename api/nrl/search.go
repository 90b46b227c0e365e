package nrl

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tombolo/connector/nrl"
	"tombolo/fhir"
)

func contains(list []string, s string) bool { return slices.Contains(list, s) }
func itoa(n int) string                     { return strconv.Itoa(n) }

// searchByGet answers a search whose question stands in the address. The standard has it so; the address is not written down here.
func (s *server) searchByGet(r *request) (*answer, error) {
	params, err := query(r.URL.RawQuery)
	if err != nil {
		return nil, nrl.Refusal(http.StatusBadRequest, "invalid", "INVALID_PARAMETER", "Invalid query parameter")
	}
	q, bad := nrl.ParseQuery(params, s.o.Side == Consumer, "Invalid query parameter", "INVALID_PARAMETER")
	if bad != nil {
		return nil, bad
	}
	lead := ""
	if s.o.Side == Consumer {
		lead = "Invalid query parameter"
	}
	return s.search(r, q, params, lead)
}

// query reads parameters in the order in which they come.
func query(raw string) ([]nrl.Param, error) {
	var out []nrl.Param
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(k)
		if err != nil {
			return nil, err
		}
		value, err := url.QueryUnescape(v)
		if err != nil {
			return nil, err
		}
		out = append(out, nrl.Param{Name: name, Value: value})
	}
	return out, nil
}

// searchByPost answers a search whose question stands in the body, where it belongs.
func (s *server) searchByPost(r *request) (*answer, error) {
	if r.Method != http.MethodPost {
		return notAllowed("POST"), nil
	}
	const lead = "Request body could not be parsed"
	if len(r.body) == 0 {
		return nil, nrl.Refusal(http.StatusBadRequest, "invalid", "BAD_REQUEST", "Request body is required")
	}
	root, err := fhir.ParseValue(r.body)
	if err != nil || !root.IsObject() {
		return nil, nrl.Refusal(http.StatusBadRequest, "invalid", "MESSAGE_NOT_WELL_FORMED", lead)
	}
	var params []nrl.Param
	for m := range root.Children() {
		if !m.IsString() {
			return nil, nrl.Refusal(http.StatusBadRequest, "invalid", "MESSAGE_NOT_WELL_FORMED", lead+" ("+m.Key()+": Input should be a valid string)", m.Key())
		}
		params = append(params, nrl.Param{Name: m.Key(), Value: m.Str()})
	}
	q, bad := nrl.ParseQuery(params, s.o.Side == Consumer, lead, "MESSAGE_NOT_WELL_FORMED")
	if bad != nil {
		return nil, bad
	}
	return s.search(r, q, params, "")
}

// A place is where a page goes on: the search, and the last pointer of the page before.
type place struct {
	Params []nrl.Param `json:"q"`
	Date   string      `json:"d"`
	ID     string      `json:"i"`
}

func (s *server) search(r *request, q nrl.Query, params []nrl.Param, lead string) (*answer, error) {
	var from place
	if q.Next != "" {
		var ok bool
		if from, ok = s.open(r, q.Next); !ok {
			return nil, nrl.Refusal(http.StatusBadRequest, "invalid", "INVALID_PARAMETER", "Invalid query parameter (next-page-token: this token is not one of this service's)", "next-page-token")
		}
		params = from.Params
		var bad *nrl.Outcome
		if q, bad = nrl.ParseQuery(params, s.o.Side == Consumer, "Invalid query parameter", "INVALID_PARAMETER"); bad != nil {
			return nil, bad
		}
	}
	if bad := q.Allowed(r.by.Types, lead); bad != nil {
		return nil, bad
	}
	all, err := s.o.Registry.Find(r.Context(), r.by, q)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b nrl.Pointer) int {
		return cmp.Or(cmp.Compare(b.Text("date"), a.Text("date")), cmp.Compare(a.ID(), b.ID()))
	})
	start := 0
	if from.ID != "" {
		for start < len(all) && cmp.Or(cmp.Compare(from.Date, all[start].Text("date")), cmp.Compare(all[start].ID(), from.ID)) <= 0 {
			start++
		}
	}
	page := all[start:min(start+nrl.PageSize, len(all))]
	next := ""
	if !q.Count && start+len(page) < len(all) {
		last := page[len(page)-1]
		next = s.seal(r, place{withoutToken(params), last.Text("date"), last.ID()})
	}
	if q.Count {
		page = nil
	}
	if err := s.o.Registry.Shown(r.Context(), r.by, q, page); err != nil {
		return nil, err
	}
	return &answer{status: http.StatusOK, body: s.bundle(q, len(all), page, next)}, nil
}

func withoutToken(params []nrl.Param) []nrl.Param {
	return slices.DeleteFunc(slices.Clone(params), func(p nrl.Param) bool { return p.Name == "next-page-token" })
}

// bundle writes the answer in the service's order of members. A count has no entries; a producer's answer has no self link.
func (s *server) bundle(q nrl.Query, total int, page []nrl.Pointer, next string) []byte {
	type link struct {
		Relation string `json:"relation"`
		URL      string `json:"url"`
	}
	type entry struct {
		Resource json.RawMessage `json:"resource"`
	}
	out := struct {
		ResourceType string  `json:"resourceType"`
		Type         string  `json:"type"`
		Total        int     `json:"total"`
		Link         []link  `json:"link,omitempty"`
		Entry        []entry `json:"entry,omitempty"`
	}{ResourceType: "Bundle", Type: "searchset", Total: total}
	if s.o.Side == Consumer {
		out.Link = append(out.Link, link{"self", q.SelfLink(s.o.Base)})
	}
	if next != "" { // names nobody: the token is sealed
		out.Link = append(out.Link, link{"next", s.o.Base + "/DocumentReference?next-page-token=" + next})
	}
	for _, p := range page {
		out.Entry = append(out.Entry, entry{p.Raw()})
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(out)
	return bytes.TrimRight(b.Bytes(), "\n")
}

// seal writes a place so that only this service reads it, and only for whoever it was given to: it holds the number of a person, and stands in addresses.
func (s *server) seal(r *request, p place) string {
	plain, _ := json.Marshal(p)
	box := s.box()
	nonce := make([]byte, box.NonceSize())
	_, _ = rand.Read(nonce)
	return base64.RawURLEncoding.EncodeToString(box.Seal(nonce, nonce, plain, whose(r)))
}

func (s *server) open(r *request, token string) (p place, ok bool) {
	sealed, err := base64.RawURLEncoding.DecodeString(token)
	box := s.box()
	if err != nil || len(sealed) < box.NonceSize() {
		return p, false
	}
	plain, err := box.Open(nil, sealed[:box.NonceSize()], sealed[box.NonceSize():], whose(r))
	return p, err == nil && json.Unmarshal(plain, &p) == nil
}

func whose(r *request) []byte {
	return []byte(string(r.by.Side) + "\x00" + r.by.Application + "\x00" + r.by.Organisation)
}

func (s *server) box() cipher.AEAD {
	block, err := aes.NewCipher(s.o.Key)
	if err != nil {
		panic("nrl: " + err.Error()) // the length was looked at in New
	}
	box, err := cipher.NewGCM(block)
	if err != nil {
		panic("nrl: " + err.Error())
	}
	return box
}
