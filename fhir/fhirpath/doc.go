// Package fhirpath compiles and evaluates FHIRPath (N1 2.0, with the functions that FHIR R4 adds) over the JSON that arrived.
//
//	e, err := fhirpath.Compile("name.where(use = 'official').given.first()")
//	items, err := e.Eval(fhirpath.Resource(patient), nil)
//
// An Expr is compiled once and may be evaluated by many goroutines at a time. Elements, choices (value[x]) and types are those of R4's own table
// (fhir/r4); a FHIR primitive is a System value where one is needed, and keeps its extensions. What would cost too much is refused, never run
// to its end: Limits bounds it. Errors are fhir.Issues and never repeat content.
//
// It reads nothing from outside: resolve(), memberOf() and conformsTo() ask the Env, and are errors or empty where that does not know.
package fhirpath
