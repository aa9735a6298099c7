// For tsc --checkJs only: the types are those of the package "@preact/signals".
export * from '@preact/signals';
