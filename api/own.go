package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/store"
)

// What a system reads of its own record: the interactions of any FHIR server.

// refOf is the resource that a URL names. One whose type or id cannot be is not there.
func refOf(r *http.Request) (fhir.Ref, error) {
	typ, id := r.PathValue("type"), r.PathValue("id")
	if !fhir.IsType(typ) {
		return "", unknownType(typ)
	}
	if strings.HasPrefix(id, "$") {
		return "", noOperation(id, "[type]/"+id)
	}
	if !fhir.ValidID(id) {
		return "", fhir.Errorf(fhir.NotFound, "there is nothing at this address: an id has 1 to 64 letters, digits, '-' or '.'")
	}
	if _, err := fhir.ParseNHSNumber(id); err == nil {
		return "", numberInURL()
	}
	return fhir.MakeRef(typ, id), nil
}

func unknownType(typ string) error {
	if strings.HasPrefix(typ, "$") {
		return noOperation(typ, typ)
	}
	return fhir.Errorf(fhir.NotFound, "%.40q is not a FHIR R4 resource type", typ)
}

// noOperation says that there is no such operation where it was asked for.
func noOperation(name, at string) error {
	return noAddress{fhir.Errorf(fhir.NotSupported, "there is no operation %.40q at %.60s: /fhir/metadata says which there are, and whether they are asked of the system, a type or one resource", name, at)}
}

func numberInURL() error {
	return fhir.Errorf(fhir.BusinessRule, "a person's number must not stand in a URL, which is logged on its way: use POST _search with the parameters in the body")
}

// named reads the resource of a system's own record that a URL names.
func (s *server) named(r *http.Request, session *access.Session) (*gather.Own, store.Stored, error) {
	ref, err := refOf(r)
	if err != nil {
		return nil, store.Stored{}, err
	}
	own, err := s.o.Gather.Own(r.Context(), session)
	if err != nil {
		return nil, store.Stored{}, err
	}
	got, err := own.Read(r.Context(), ref)
	return own, got, err
}

// ownRead is one resource as it is now. FHIR R4 http.html#read
func (s *server) ownRead(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	_, got, err := s.named(r, session)
	if err != nil {
		return err
	}
	return s.give(w, r, got)
}

// ownVersion is one version. FHIR R4 http.html#vread
func (s *server) ownVersion(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	ref, err := refOf(r)
	if err != nil {
		return err
	}
	version, err := strconv.Atoi(r.PathValue("version"))
	if err != nil || version < 1 {
		return fhir.Errorf(fhir.NotFound, "versions are numbers here: 1, 2, 3 …")
	}
	own, err := s.o.Gather.Own(r.Context(), session)
	if err != nil {
		return err
	}
	got, err := own.Version(r.Context(), ref, version)
	if err != nil {
		return err
	}
	return s.give(w, r, got)
}

// etag is a version as HTTP has it. FHIR R4 http.html#concurrency
func etag(version int) string { return `W/"` + strconv.Itoa(version) + `"` }

// versionIn reads an ETag, weak or strong, quoted or, as some clients send it, bare.
func versionIn(tag string) (int, bool) {
	n, err := strconv.Atoi(strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`))
	return n, err == nil && n > 0
}

// stamps are the headers of a resource that is given.
func stamps(head http.Header, version int, at time.Time) {
	head.Set("ETag", etag(version))
	head.Set("Last-Modified", at.UTC().Format(http.TimeFormat))
}

// give answers with a resource, or says that the client has it already. FHIR R4 http.html#cread
func (s *server) give(w http.ResponseWriter, r *http.Request, got store.Stored) error {
	stamps(w.Header(), got.Version, got.At)
	if notModified(r, got.Version, got.At) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	view, err := viewOf(r)
	if err != nil {
		return err
	}
	if view.whole() {
		write(w, r, http.StatusOK, got.Body)
		return nil
	}
	if err := view.known(got.Ref.Type()); err != nil && !lenient(r) {
		return err
	}
	res, err := got.Resource()
	if err != nil {
		return err
	}
	write(w, r, http.StatusOK, view.of(res).Raw())
	return nil
}

// notModified reports whether the client's copy is current. If-None-Match is stronger than If-Modified-Since. RFC 9110 §13.1.3
func notModified(r *http.Request, version int, at time.Time) bool {
	if tags := r.Header.Get("If-None-Match"); tags != "" {
		for tag := range strings.SplitSeq(tags, ",") {
			if v, ok := versionIn(tag); ok && v == version || strings.TrimSpace(tag) == "*" {
				return true
			}
		}
		return false
	}
	since, err := http.ParseTime(r.Header.Get("If-Modified-Since"))
	return err == nil && !at.Truncate(time.Second).After(since)
}

const (
	historyDefault = 50
	historyMost    = 1000
)

// ownHistory is what changed: of a resource, a type, or all of it, newest first. FHIR R4 http.html#history
func (s *server) ownHistory(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	span := gather.Span{Type: r.PathValue("type"), ID: r.PathValue("id"), Count: historyDefault}
	if span.ID != "" {
		if _, err := refOf(r); err != nil {
			return err
		}
	} else if span.Type != "" && !fhir.IsType(span.Type) {
		return unknownType(span.Type)
	}
	if err := spanOf(r, &span); err != nil {
		return err
	}
	own, err := s.o.Gather.Own(r.Context(), session)
	if err != nil {
		return err
	}
	query := strings.TrimPrefix(r.URL.Path, "/fhir/")
	found, next, err := own.History(r.Context(), span, query)
	if err != nil {
		return err
	}
	view, err := viewOf(r)
	if err != nil {
		return err
	}
	self := r.URL.Query()
	self.Del("_format")
	address := s.base(r) + "/" + query
	links := []fhir.Link{{Relation: "self", URL: withQuery(address, self)}}
	if next > 0 {
		self.Set("_cursor", strconv.FormatUint(uint64(next), 10))
		links = append(links, fhir.Link{Relation: "next", URL: withQuery(address, self)})
	}
	total := -1
	if span.ID != "" && next == 0 && span.Before == 0 {
		total = len(found)
	}
	b := fhir.NewBundle("history", s.base(r), total, 0, links...)
	for _, v := range found {
		entry := fhir.EntryParts{FullURL: s.base(r) + "/" + string(v.Ref), Resource: v.Body}
		method, url, status := "PUT", string(v.Ref), "200"
		switch {
		case v.Deleted:
			method, status, entry.Resource = "DELETE", "204", nil
		case v.Version == 1:
			method, url, status = "POST", v.Ref.Type(), "201"
		}
		if entry.Resource != nil && !view.whole() {
			res, err := v.Resource()
			if err != nil {
				return err
			}
			entry.Resource = view.of(res).Raw()
		}
		entry.Request = fhir.M{"method": method, "url": url}
		entry.Response = fhir.M{"status": status, "etag": etag(v.Version), "lastModified": fhir.Instant(v.At)}
		b.AddEntry(entry)
	}
	write(w, r, http.StatusOK, b.Bytes())
	return nil
}

func withQuery(address string, v map[string][]string) string {
	if q := encodeQuery(v); q != "" {
		return address + "?" + q
	}
	return address
}

// spanOf reads what a history is asked for: _count, _since, and this server's own cursor.
func spanOf(r *http.Request, span *gather.Span) error {
	var since time.Time
	var at *fhir.Span
	for name, values := range r.URL.Query() {
		v := values[len(values)-1]
		var err error
		switch name {
		case "_count":
			span.Count, err = strconv.Atoi(v)
			if err == nil && span.Count < 1 {
				span.Count = 1
			}
			span.Count = min(span.Count, historyMost)
		case "_since":
			since, err = time.Parse(time.RFC3339, strings.ReplaceAll(v, " ", "+"))
		case "_at": // FHIR R4 http.html#history
			var when fhir.Span
			when, err = fhir.ParseDate(strings.ReplaceAll(v, " ", "+"))
			at = &when
		case "_cursor":
			var n uint64
			n, err = strconv.ParseUint(v, 10, 63)
			span.Before = events.Seq(n)
		case "_format", "_pretty", "_summary", "_elements":
		default:
			if !lenient(r) {
				return fhir.Errorf(fhir.NotSupported, "a history takes _count, _since and _at: leave this out, or send Prefer: handling=lenient").At(name)
			}
		}
		if err != nil {
			return fhir.Errorf(fhir.ValueError, "this value cannot be read: _count is a number, _since an instant such as 2026-01-31T09:00:00Z, _at a date or an instant").At(name)
		}
	}
	// Of one resource the versions come newest first: each was current until the one before it in the list.
	until := time.Time{}
	if span.ID == "" {
		span.At, at = at, nil
	}
	span.Keep = func(v store.Stored) bool {
		current := at == nil || v.At.Before(at.End) && (until.IsZero() || until.After(at.Start))
		until = v.At
		return current && !v.At.Before(since)
	}
	return nil
}

// encodeQuery writes parameters so that they read as people wrote them: commas, colons, bars and dollars stay.
func encodeQuery(v map[string][]string) string {
	var parts []string
	names := make([]string, 0, len(v))
	for name := range v {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range v[name] {
			parts = append(parts, queryEscape(name)+"="+queryEscape(value))
		}
	}
	return strings.Join(parts, "&")
}

const queryPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~,:$/?@!*'()"

func queryEscape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(queryPlain, s[i]) >= 0 {
			b.WriteByte(s[i])
		} else {
			b.WriteByte('%')
			b.WriteByte("0123456789ABCDEF"[s[i]>>4])
			b.WriteByte("0123456789ABCDEF"[s[i]&15])
		}
	}
	return b.String()
}
