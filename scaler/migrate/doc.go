// Package migrate converts HorizontalPodAutoscalers with custom metrics to ScaledObjects. It is
// pure: the objects and the rules of prometheus-adapter are arguments.
package migrate
