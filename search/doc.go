// Package search is what a FHIR search means: parsing a query, the values a resource is indexed under, and Matches, the one
// meaning of search in memory that the store's answers, subscriptions and fan-out filters are all held to.
package search
