// For tsc --checkJs only: the types are those of the package "preact".
export * from 'preact';
