// Package storetest says what a store must do, twice: Run is the list of rules,
// one test each, and Model is a store in memory so simple that RunModel takes
// its answers to random operations for the right ones.
package storetest
