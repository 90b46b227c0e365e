package connector

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"tombolo/fhir"
)

// A Stamper turns a source's ids into this server's, so that two sources can never be confused and an id tells nothing of
// what it was made from (a source may well use NHS numbers as ids). The same source, type and id always give the same answer.
type Stamper struct{ Key []byte }

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// ID is this server's id for a source's resource.
func (s Stamper) ID(source, typ, id string) string {
	m := hmac.New(sha256.New, s.Key)
	var text [192]byte
	named := append(append(append(append(append(append(text[:0], source...), 0), typ...), 0), id...), 0)
	m.Write(named)
	var sum [sha256.Size]byte
	return idEncoding.EncodeToString(m.Sum(sum[:0])[:16])
}

// Ref is this server's reference for a source's resource.
func (s Stamper) Ref(source string, r fhir.Ref) fhir.Ref {
	return fhir.MakeRef(r.Type(), s.ID(source, r.Type(), r.ID()))
}

// Stamp gives a source's resource this server's id, rewrites the relative references in it likewise, and sets meta.source to
// the source (with the original id as fragment) in place of whatever was claimed. Everything else stays byte for byte. References
// that are absolute, contained ("#x") or by identifier are left alone.
func (s Stamper) Stamp(source string, r *fhir.Resource) (*fhir.Resource, error) {
	if r.ID() == "" {
		return nil, fhir.Errorf(fhir.Required, "a resource from a source needs the source's id").At(r.Type() + ".id").From(source)
	}
	id, root := fhir.JSON(s.ID(source, r.Type(), r.ID())), r.Value()
	own, claimed := root.Member("id"), root.Member("meta")
	meta := stampedMeta(source, r.ID(), claimed)
	raw := root.Rewrite(func(v fhir.Value) ([]byte, bool) {
		switch v {
		case own:
			return id, true
		case claimed:
			return meta, true
		}
		if k := v.Key(); k != "reference" && k != "url" || !v.IsString() {
			return nil, false
		}
		// An attachment's url may be a relative reference to a Binary; other urls are never of that form.
		if ref, ok := relative(v.Str()); ok && (v.Key() == "reference" || ref.Type() == "Binary") {
			return fhir.JSON(s.Ref(source, ref)), true
		}
		return nil, false
	})
	if !claimed.Exists() {
		raw = append(append(append(raw[:len(raw)-1], `,"meta":`...), meta...), '}')
	}
	return fhir.Parse(raw)
}

// StampOwn is Stamp for a system that keeps its record here over this node's own API: there is no other server whose ids they could be, so id and
// references stay. Only meta.source is set.
func (s Stamper) StampOwn(source string, r *fhir.Resource) (*fhir.Resource, error) {
	return fhir.Parse(r.Splice("meta", stampedMeta(source, r.ID(), r.Value().Member("meta"))))
}

// stampedMeta is the meta that was claimed, without what is ours to say, and with the source.
func stampedMeta(source, original string, claimed fhir.Value) []byte {
	b := append(make([]byte, 0, 128+len(claimed.Raw())), '{')
	for m := range claimed.Children() {
		switch m.Key() {
		case "versionId", "lastUpdated", "source":
		default:
			b = append(b, fhir.JSON(m.Key())...)
			b = append(b, ':')
			b = append(b, m.Raw()...)
			b = append(b, ',')
		}
	}
	b = append(b, `"source":`...)
	b = append(b, fhir.JSON(SourceURI(source)+"#"+fragment(original))...)
	return append(b, '}')
}

// relative reads "Type/id", and "Type/id/_history/3" without its version. "urn:uuid:" is not relative: connectors resolve those.
func relative(ref string) (fhir.Ref, bool) {
	typ, rest, _ := strings.Cut(ref, "/")
	if !fhir.IsType(typ) {
		return "", false
	}
	id, version, versioned := strings.Cut(rest, "/")
	if versioned {
		version, versioned = strings.CutPrefix(version, "_history/")
		if !versioned || strings.Contains(version, "/") {
			return "", false
		}
	}
	return fhir.MakeRef(typ, id), id != ""
}

// Withheld stands in meta.source for an original id that is not told.
const Withheld = "withheld"

// fragment hides an id that has the form of a national number: the original stays in the source, not in our answers' metadata.
func fragment(id string) string {
	if _, err := fhir.ParseNHSNumber(id); err == nil {
		return Withheld
	}
	return id
}

// ExtensionRaw is where a Provenance names the delivery that its targets came in, by the SHA-256 of its bytes as they arrived.
const ExtensionRaw = "https://tombolo.dev/StructureDefinition/raw-sha256"

// SourceURI is how a source is named in meta.source.
func SourceURI(source string) string { return "urn:tombolo:source:" + source }

// SourceOf reads the source's id back out of a stamped resource's meta.source, "" if it has none.
func SourceOf(r *fhir.Resource) string {
	s, ok := strings.CutPrefix(r.Text("meta.source"), "urn:tombolo:source:")
	if !ok {
		return ""
	}
	s, _, _ = strings.Cut(s, "#")
	return s
}
