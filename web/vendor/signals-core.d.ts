// For tsc --checkJs only: the types are those of the package "@preact/signals-core".
export * from '@preact/signals-core';
